//! Kubernetes objects as YAML.

pub(crate) fn namespace(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

/// A running pod with a proxy.
pub(crate) fn pod(namespace: &str, name: &str, uid: &str, account: &str, ip: &str) -> String {
    format!(
        r#"---
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  uid: {uid}
  labels: {{app: {account}, security.istio.io/tlsMode: istio}}
spec:
  serviceAccountName: {account}
  containers: [{{name: app, ports: [{{containerPort: 8080}}]}}, {{name: mesh-proxy}}]
status:
  phase: Running
  podIP: {ip}
  podIPs: [{{ip: {ip}}}]
  conditions: [{{type: Ready, status: "True"}}]
"#
    )
}

pub(crate) fn service(namespace: &str, name: &str, ip: &str) -> String {
    format!(
        r#"---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  clusterIP: {ip}
  clusterIPs: [{ip}]
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
"#
    )
}

/// The endpoints of a service: pods as (name, uid, address, ready).
pub(crate) fn slice(namespace: &str, service: &str, pods: &[(&str, &str, &str, bool)]) -> String {
    let endpoints: String = pods
        .iter()
        .map(|(name, uid, ip, ready)| {
            format!(
                "- addresses: [{ip}]\n  conditions: {{ready: {ready}, serving: {ready}, terminating: false}}\n  \
                 targetRef: {{kind: Pod, name: {name}, namespace: {namespace}, uid: {uid}}}\n"
            )
        })
        .collect();
    let endpoints = if endpoints.is_empty() { "[]".to_owned() } else { format!("\n{endpoints}") };
    format!(
        r#"---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {service}-1
  namespace: {namespace}
  labels: {{kubernetes.io/service-name: {service}}}
addressType: IPv4
ports: [{{name: http, port: 8080, protocol: TCP}}]
endpoints: {endpoints}
"#
    )
}
