//! A proxy's configuration as tables: what people look for first. `-o yaml` and `-o json` show everything.

use serde_json::Value;

use crate::output::{BOLD, line, styled, table};

/// One part of a dump as text, where the dump has it.
type Show = fn(&Value) -> Option<String>;

/// Prints the parts that a dump has, each with a heading where there is more than one.
pub(crate) fn print(dump: &Value) {
    let parts: [(&str, Show); 5] = [
        ("services", services),
        ("routes", routes),
        ("endpoints", endpoints),
        ("inbound", inbound),
        ("secrets", secrets),
    ];
    let shown: Vec<(&str, String)> = parts.iter().filter_map(|(name, show)| Some((*name, show(dump)?))).collect();
    let several = shown.len() > 1;
    for (at, (name, text)) in shown.iter().enumerate() {
        if several {
            line(format_args!("{}{}", if at == 0 { "" } else { "\n" }, styled(BOLD, name)));
        }
        line(text);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A JSON scalar as a person reads it; absent is `-`.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn words(value: &Value) -> String {
    match list(value) {
        [] => "-".into(),
        some => some.iter().map(word).collect::<Vec<_>>().join(","),
    }
}

/// `kind/namespace/name`.
fn origin(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        of => format!("{}/{}/{}", word(&of["kind"]), word(&of["namespace"]), word(&of["name"])),
    }
}

fn empty_or(rows: Vec<Vec<String>>, heading: &[&str], nothing: &str) -> String {
    if rows.is_empty() { nothing.to_owned() } else { table(heading, rows) }
}

fn services(dump: &Value) -> Option<String> {
    let held = dump.get("services")?.as_array()?;
    let mut rows = Vec::new();
    for service in held {
        let rules: Vec<String> = list(&service["rules"]).iter().map(origin).collect();
        let rules = if rules.is_empty() { "-".into() } else { rules.join(",") };
        for port in list(&service["ports"]) {
            let policy = &port["policy"];
            rows.push(vec![
                word(&service["host"]),
                word(&port["port"]),
                word(&port["protocol"]),
                words(&service["addresses"]),
                word(&service["endpoints"]),
                word(&policy["balancer"]["type"]),
                word(&policy["tls"]["type"]),
                words(&Value::Array(list(&service["subsets"]).iter().map(|subset| subset["name"].clone()).collect())),
                rules.clone(),
            ]);
        }
    }
    let heading = ["HOST", "PORT", "PROTOCOL", "ADDRESS", "ENDPOINTS", "BALANCER", "TLS", "SUBSETS", "DESTINATIONRULE"];
    Some(empty_or(rows, &heading, "The proxy has used no service yet: it holds what it uses."))
}

fn routes(dump: &Value) -> Option<String> {
    let held = dump.get("routes")?.as_array()?;
    let mut rows = Vec::new();
    for of_host in held {
        let (host, by) = (word(&of_host["name"]), origin(&of_host["origin"]));
        let host = host.split_once('/').map_or(host.as_str(), |(_, host)| host).to_owned();
        for (kind, rules) in [("http", "http"), ("tls", "tls"), ("tcp", "tcp")] {
            for (index, rule) in list(&of_host[rules]).iter().enumerate() {
                let name = rule.get("name").map_or_else(|| index.to_string(), word);
                let to = rule.get("action").map_or_else(|| destinations(&rule["destinations"]), action);
                rows.push(vec![host.clone(), kind.into(), name, conditions(&rule["matches"]), to, by.clone()]);
            }
        }
        // Protocols of which the VirtualService says nothing.
        let silent: Vec<&str> =
            ["http", "tls", "tcp"].into_iter().filter(|kind| list(&of_host[*kind]).is_empty()).collect();
        if of_host["implicit"] == true && !silent.is_empty() {
            let kind = if silent.len() == 3 { "any".to_owned() } else { silent.join(",") };
            rows.push(vec![host, kind, "default".into(), "everything".into(), "the service itself".into(), "-".into()]);
        }
    }
    let heading = ["HOST", "KIND", "RULE", "MATCH", "TO", "VIRTUALSERVICE"];
    Some(empty_or(rows, &heading, "The proxy has used no route yet: it holds what it uses."))
}

/// Matches, each as `path=exact:/x header:end-user=exact:jason`, with `or` between.
fn conditions(matches: &Value) -> String {
    let one = |of: &Value| -> String {
        let mut said = Vec::new();
        for field in ["path", "method", "authority", "scheme"] {
            if let Some(text) = of.get(field).filter(|text| !text.is_null()) {
                said.push(format!("{field}={}", condition(text)));
            }
        }
        for (field, what) in [("headers", "header"), ("query", "query")] {
            for named in list(&of[field]) {
                let not = if named["invert"] == true { "not " } else { "" };
                said.push(format!("{not}{what}:{}={}", word(&named["name"]), condition(&named["value"])));
            }
        }
        for field in ["sni", "destination_subnets"] {
            if !list(&of[field]).is_empty() {
                said.push(format!("{field}={}", words(&of[field])));
            }
        }
        if !of["port"].is_null() {
            said.push(format!("port={}", word(&of["port"])));
        }
        for (key, value) in of["source_labels"].as_object().into_iter().flatten() {
            said.push(format!("source:{key}={}", word(value)));
        }
        if !of["unsupported"].is_null() {
            said.push(format!("never ({})", word(&of["unsupported"])));
        }
        if said.is_empty() { "everything".into() } else { said.join(" ") }
    };
    match list(matches) {
        [] => "everything".into(),
        some => some.iter().map(one).collect::<Vec<_>>().join(" or "),
    }
}

/// `exact:/x`, or `present`.
fn condition(text: &Value) -> String {
    match text.as_object().and_then(|of| of.iter().next()) {
        Some((how, what)) => format!("{how}:{}", word(what)),
        None => word(text),
    }
}

fn action(action: &Value) -> String {
    match action["type"].as_str() {
        Some("route") => destinations(&action["destinations"]),
        Some("redirect") => format!("redirect {}", word(&action["status"])),
        Some("direct") => format!("answer {}", word(&action["status"])),
        Some("invalid") => format!(
            "answer 500: {}",
            action.as_object().map_or_else(String::new, |of| {
                of.iter().filter(|(key, _)| *key != "type").map(|(_, why)| word(why)).collect::<Vec<_>>().join(" ")
            })
        ),
        _ => word(action),
    }
}

fn destinations(of: &Value) -> String {
    let several = list(of).len() > 1;
    let one = |to: &Value| {
        let service = word(&to["service"]);
        let host = service.split_once('/').map_or(service.as_str(), |(_, host)| host);
        let subset = to["subset"].as_str().map(|subset| format!(" subset {subset}")).unwrap_or_default();
        let port = to["port"].as_u64().map(|port| format!(":{port}")).unwrap_or_default();
        let weight = if several { format!(" ({})", word(&to["weight"])) } else { String::new() };
        format!("{host}{port}{subset}{weight}")
    };
    list(of).iter().map(one).collect::<Vec<_>>().join(", ")
}

fn endpoints(dump: &Value) -> Option<String> {
    let held = dump.get("endpoints")?.as_array()?;
    let mut rows = Vec::new();
    for endpoint in held {
        let service = word(&endpoint["service"]);
        let ports: Vec<String> =
            endpoint["ports"].as_object().into_iter().flatten().map(|(from, to)| format!("{from}→{to}")).collect();
        let of_any = list(&endpoint["destinations"]);
        let ejected = of_any.iter().any(|of| of["ejected_ms"].as_u64().is_some_and(|left| left > 0));
        let active: u64 = of_any.iter().filter_map(|of| of["active_requests"].as_u64()).sum();
        rows.push(vec![
            service.split_once('/').map_or(service.as_str(), |(_, host)| host).to_owned(),
            list(&endpoint["addresses"]).first().map_or_else(|| word(&endpoint["hostname"]), word),
            if ports.is_empty() { "-".into() } else { ports.join(",") },
            if ejected { "ejected".into() } else { word(&endpoint["health"]) },
            active.to_string(),
            if endpoint["mesh_tls"] == true { "mutual" } else { "-" }.into(),
            word(&endpoint["workload"]["pod"]),
            word(&endpoint["identity"]),
        ]);
    }
    let heading = ["SERVICE", "ADDRESS", "PORTS", "HEALTH", "ACTIVE", "TLS", "POD", "IDENTITY"];
    Some(empty_or(rows, &heading, "The proxy has used no service yet, so it holds no endpoints."))
}

fn inbound(dump: &Value) -> Option<String> {
    let own = dump.get("inbound")?;
    if own.is_null() {
        return Some("The control plane has not told this proxy yet what to accept.".into());
    }
    let mut rows: Vec<Vec<String>> = list(&own["ports"])
        .iter()
        .map(|port| {
            let service = word(&port["service"]);
            let service = service.split_once('/').map_or(service.as_str(), |(_, host)| host).to_owned();
            vec![
                word(&port["port"]),
                word(&port["protocol"]),
                word(&port["mtls"]),
                origin(&port["mtls_origin"]),
                service,
            ]
        })
        .collect();
    rows.push(vec!["others".into(), "-".into(), word(&own["mtls"]), origin(&own["mtls_origin"]), "-".into()]);
    let mut text = format!("{}, {}\n", word(&own["identity"]), words(&own["addresses"]));
    text.push_str(&table(&["PORT", "PROTOCOL", "MUTUAL TLS", "PEERAUTHENTICATION", "SERVICE"], rows));
    let policies: Vec<Vec<String>> = list(&own["policies"])
        .iter()
        .map(|policy| {
            let enforced = if policy["dry_run"] == true { "dry run" } else { "yes" };
            vec![origin(&policy["origin"]), word(&policy["action"]), word(&policy["rules"]), enforced.into()]
        })
        .collect();
    text.push('\n');
    let heading = ["AUTHORIZATIONPOLICY", "ACTION", "RULES", "ENFORCED"];
    text.push_str(&empty_or(
        policies,
        &heading,
        "No AuthorizationPolicy selects this workload: everybody may call it.",
    ));
    if own["draining"] == true {
        text.push_str("\nThe pod is ending.");
    }
    Some(text)
}

fn secrets(dump: &Value) -> Option<String> {
    let held = dump.get("secrets")?;
    let certificate = &held["certificate"];
    let mut rows = Vec::new();
    let lines =
        list(&certificate["chain"]).iter().enumerate().map(|(at, one)| (if at == 0 { "own" } else { "chain" }, one));
    for (what, one) in lines.chain(list(&held["roots"]).iter().map(|one| ("root", one))) {
        let who = if what == "own" { word(&certificate["identity"]) } else { word(&one["subject"]) };
        let left = one["seconds_left"].as_i64().unwrap_or_default();
        let left = if left < 0 { "expired".into() } else { format!("{}h", left / 3600) };
        rows.push(vec![what.into(), who, left, word(&one["not_after"]), word(&one["serial"])]);
    }
    let heading = ["CERTIFICATE", "OF", "LEFT", "NOT AFTER", "SERIAL"];
    Some(empty_or(rows, &heading, "The proxy has no certificate yet: meshctl sandbox logs POD -c mesh-proxy says why."))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_reads_as_its_author_wrote_it() {
        let dump = json!({"routes": [{
            "name": "shop/cart.shop.svc.cluster.local", "implicit": false,
            "origin": {"kind": "VirtualService", "namespace": "shop", "name": "cart", "generation": 1},
            "http": [
                {"name": "0", "matches": [{"path": {"prefix": "/v2"}, "headers": [
                    {"name": "end-user", "value": {"exact": "jason"}, "invert": false}]}],
                 "action": {"type": "route", "destinations": [
                    {"service": "shop/cart.shop.svc.cluster.local", "subset": "v2", "port": null, "weight": 1}]}},
                {"name": "1", "matches": [],
                 "action": {"type": "route", "destinations": [
                    {"service": "shop/cart.shop.svc.cluster.local", "subset": "v1", "port": 80, "weight": 75},
                    {"service": "shop/cart.shop.svc.cluster.local", "subset": "v2", "port": 80, "weight": 25}]}}],
            "tls": [], "tcp": []}]});
        expect![[r#"
            HOST                         KIND  RULE  MATCH                                        TO                                                                                            VIRTUALSERVICE
            cart.shop.svc.cluster.local  http  0     path=prefix:/v2 header:end-user=exact:jason  cart.shop.svc.cluster.local subset v2                                                         VirtualService/shop/cart
            cart.shop.svc.cluster.local  http  1     everything                                   cart.shop.svc.cluster.local:80 subset v1 (75), cart.shop.svc.cluster.local:80 subset v2 (25)  VirtualService/shop/cart"#]]
        .assert_eq(&routes(&dump).unwrap());
    }

    #[test]
    fn nothing_held_is_said_in_words() {
        for part in ["services", "routes", "endpoints"] {
            let dump = json!({part: []});
            let shown = [services(&dump), routes(&dump), endpoints(&dump)].into_iter().flatten().collect::<String>();
            assert!(shown.contains("yet"), "{part}: {shown}");
        }
    }
}
