//! Kubernetes' own kinds, trimmed to what the mesh reads. Fields that are not here are passed over in silence.

use std::collections::BTreeMap;

use crate::read::{Read, Reader};

message! {
    /// A namespace; everything that matters is in its labels.
    trimmed struct Namespace {}
}

message! {
    /// A service account; only its existence matters.
    trimmed struct ServiceAccount {}
}

message! {
    /// Named texts.
    trimmed struct ConfigMap {
        data: BTreeMap<String, String> => "The texts.",
    }
}

message! {
    /// A service.
    trimmed struct Service {
        spec: ServiceSpec => "What it is.",
    }
}

message! {
    /// A service's specification.
    trimmed struct ServiceSpec {
        cluster_ip as "clusterIP": String => "Its address; `None` for headless services.",
        cluster_ips as "clusterIPs": Vec<String> => "Its addresses, the first equal to `clusterIP`.",
        external_ips as "externalIPs": Vec<String> => "More addresses.",
        ports: Vec<ServicePort> => "Its ports.",
        selector: BTreeMap<String, String> => "Labels of its pods; empty when endpoints are written by hand.",
        type_: String => "ClusterIP, NodePort, LoadBalancer, ExternalName; empty means ClusterIP.",
        external_name: String => "The name it stands for, for ExternalName.",
        publish_not_ready_addresses: bool => "Whether pods that are not ready belong to it.",
        session_affinity: String => "None or ClientIP.",
        traffic_distribution: String => "PreferClose and the like.",
    }
}

message! {
    /// A port of a service.
    trimmed struct ServicePort {
        name: String => "Its name; also says the protocol, by the part before the first `-`.",
        port: u32 => "The number.",
        protocol: String => "TCP, UDP, SCTP; empty means TCP.",
        app_protocol: Option<String> => "Says the protocol, before the name does.",
        target_port: Option<IntOrString> => "The pods' port, by number or name; absent means the same.",
        node_port: u32 => "The port on every node.",
    }
}

/// A number or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntOrString {
    /// A number.
    Int(u32),
    /// A name.
    Name(String),
}

impl Read for IntOrString {
    fn absent() -> Self {
        IntOrString::Int(0)
    }
    fn read(value: &serde_json::Value, reader: &mut Reader) -> Self {
        match value {
            serde_json::Value::String(name) => IntOrString::Name(name.clone()),
            other => IntOrString::Int(Read::read(other, reader)),
        }
    }
}

message! {
    /// Endpoints of a service; the service is named by the label `kubernetes.io/service-name`.
    trimmed struct EndpointSlice {
        address_type: String => "IPv4, IPv6 or FQDN.",
        endpoints: Vec<Endpoint> => "The endpoints.",
        ports: Vec<EndpointPort> => "Their ports.",
    }
}

message! {
    /// One endpoint.
    trimmed struct Endpoint {
        addresses: Vec<String> => "Its addresses.",
        conditions: EndpointConditions => "Its state.",
        target_ref: Option<ObjectReference> => "The pod.",
        node_name: String => "The node.",
        zone: String => "The zone.",
        hostname: String => "Its name under a headless service.",
    }
}

message! {
    /// An endpoint's state; absent means unknown.
    trimmed struct EndpointConditions {
        ready: Option<bool> => "Whether it takes traffic; absent counts as yes.",
        serving: Option<bool> => "Whether it works, also while it terminates.",
        terminating: Option<bool> => "Whether it is going away.",
    }
}

message! {
    /// A reference to an object.
    trimmed struct ObjectReference {
        kind: String => "The kind.",
        name: String => "The name.",
        namespace: String => "The namespace.",
        uid: String => "The uid.",
    }
}

message! {
    /// A port of endpoints.
    trimmed struct EndpointPort {
        name: String => "The service's port name.",
        port: Option<u32> => "The number; absent means all.",
        protocol: String => "TCP, UDP, SCTP; empty means TCP.",
        app_protocol: Option<String> => "The protocol.",
    }
}

message! {
    /// A pod.
    trimmed struct Pod {
        spec: PodSpec => "What it is.",
        status: PodStatus => "How it is.",
    }
}

message! {
    /// A pod's specification.
    trimmed struct PodSpec {
        service_account_name: String => "Its identity; empty means `default`.",
        containers: Vec<Container> => "Its containers.",
        init_containers: Vec<Container> => "Containers that run before, or beside (native sidecars).",
        node_name: String => "The node.",
        host_network: bool => "Whether it shares the node's network.",
        hostname: String => "Its name under a headless service.",
        subdomain: String => "The headless service.",
    }
}

message! {
    /// A container.
    trimmed struct Container {
        name: String => "Its name.",
        ports: Vec<ContainerPort> => "Its ports.",
    }
}

message! {
    /// A port of a container.
    trimmed struct ContainerPort {
        name: String => "Its name.",
        container_port: u32 => "The number.",
        protocol: String => "TCP, UDP, SCTP; empty means TCP.",
    }
}

message! {
    /// A pod's state.
    trimmed struct PodStatus {
        phase: String => "Pending, Running, Succeeded, Failed.",
        pod_ip as "podIP": String => "Its address.",
        pod_ips as "podIPs": Vec<PodIp> => "Its addresses, the first equal to `podIP`.",
        host_ip as "hostIP": String => "The node's address.",
        conditions: Vec<PodCondition> => "Its conditions.",
    }
}

message! {
    /// An address of a pod.
    trimmed struct PodIp {
        ip: String => "The address.",
    }
}

message! {
    /// A condition of a pod.
    trimmed struct PodCondition {
        type_: String => "Which one.",
        status: String => "True, False, Unknown.",
    }
}

impl PodSpec {
    /// Whether the pod has a container or init container of this name.
    pub fn has_container(&self, name: &str) -> bool {
        self.containers.iter().chain(&self.init_containers).any(|container| container.name == name)
    }
}
