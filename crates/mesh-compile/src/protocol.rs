//! What a port's declaration says it speaks: `appProtocol`, else the port name, else well-known numbers.

use mesh_core::config::Protocol;

/// TCP ports on which the server speaks first, so that nothing can be sniffed: SMTP, DNS, MySQL, MongoDB.
const SERVER_FIRST_PORTS: [u32; 4] = [25, 53, 3306, 27017];

/// The protocol of a Kubernetes Service's port. An `appProtocol` that says nothing is not retried with the name.
pub(crate) fn of_service_port(transport: &str, app_protocol: Option<&str>, name: &str, number: u32) -> Protocol {
    if transport.eq_ignore_ascii_case("UDP") {
        return Protocol::Udp;
    }
    let declared = match app_protocol {
        Some("kubernetes.io/h2c") => Some(Protocol::Http2),
        Some("kubernetes.io/ws") => Some(Protocol::Http),
        Some("kubernetes.io/wss") => Some(Protocol::Tls),
        Some(other) => of_word(other),
        None => of_word(name),
    };
    declared.unwrap_or(if SERVER_FIRST_PORTS.contains(&number) { Protocol::Tcp } else { Protocol::Unspecified })
}

/// The protocol that a word, or the part of it before the first `-`, names.
pub(crate) fn of_word(word: &str) -> Option<Protocol> {
    let word = word.to_ascii_lowercase();
    let is_grpc_web = word == "grpc-web" || word.starts_with("grpc-web-");
    let head = if is_grpc_web { "grpc-web" } else { word.split('-').next().unwrap_or_default() };
    Some(match head {
        "http" => Protocol::Http,
        // grpc-web is gRPC inside ordinary HTTP/1 or HTTP/2 requests; its bridge is the application's affair.
        "grpc-web" => Protocol::Http,
        "http2" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        "https" | "tls" => Protocol::Tls,
        "tcp" | "mongo" | "redis" | "mysql" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_then_name_then_well_known_ports() {
        let check = |app: Option<&str>, name: &str, number, want| {
            assert_eq!(of_service_port("TCP", app, name, number), want, "{app:?} {name} {number}");
        };
        check(None, "http-web", 80, Protocol::Http);
        check(None, "HTTP2", 80, Protocol::Http2);
        check(None, "grpc-web-x", 80, Protocol::Http);
        check(None, "grpc-x", 80, Protocol::Grpc);
        check(None, "https", 443, Protocol::Tls);
        check(None, "httpx", 80, Protocol::Unspecified);
        check(None, "web", 3306, Protocol::Tcp);
        check(None, "", 9080, Protocol::Unspecified);
        check(Some("kubernetes.io/h2c"), "tcp", 80, Protocol::Http2);
        check(Some("kubernetes.io/wss"), "", 80, Protocol::Tls);
        check(Some("nonsense"), "http", 80, Protocol::Unspecified);
        assert_eq!(of_service_port("UDP", Some("http"), "http", 80), Protocol::Udp);
    }
}
