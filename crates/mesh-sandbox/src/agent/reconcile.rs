//! Bringing what runs in line with what was asked for, whenever either has changed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::deployments::{self, Member};
use super::world::{PodEntry, World};
use super::{Agent, endpoints, files, mesh};
use crate::names;
use crate::net::addresses::NODE_NAME;
use crate::objects::manifest::{Key, Object};
use crate::objects::spec::PodSpec;
use crate::pod::lifecycle::{self, Plan};
use crate::pod::status::Phase;

/// Changes that come together are answered together: this long is waited for more.
const SETTLE: Duration = Duration::from_millis(5);

/// Runs until the supervisor ends.
pub(crate) async fn run(agent: Arc<Agent>) {
    let mut writer = files::Writer::new(&agent.dir.config());
    loop {
        agent.changed().await;
        tokio::time::sleep(SETTLE).await;
        once(&agent, &mut writer).await;
        agent.round_ended();
    }
}

async fn once(agent: &Arc<Agent>, writer: &mut files::Writer) {
    let (plans, contents, zone, pods) = {
        let mut world = agent.world();
        let world = &mut *world;
        let plans = if world.closing { Vec::new() } else { pods(agent, world) };
        let slices = endpoints::slices(world);
        world.ports = endpoints::virtual_ports(world);
        let pods: Vec<String> = world
            .pods
            .iter()
            .filter(|(_, p)| p.netns.is_some() && p.rules.is_some())
            .map(|(uid, _)| uid.clone())
            .collect();
        (plans, files::contents(world, &slices), endpoints::zone(world, &agent.domain), pods)
    };
    if !plans.is_empty() {
        agent.ring(); // the new pods' files are written in the next round
    }
    for (plan, stop) in plans {
        tokio::spawn(lifecycle::run(plan, stop));
    }
    agent.dns.replace(zone);
    if let Err(why) = writer.write(contents) {
        tracing::error!(error = format!("{why:#}"), "the files for mesh-control could not be written");
    }
    let rules = pods.iter().map(|uid| async move { (uid, agent.write_rules(uid, false).await) });
    for (uid, done) in join_all(rules).await {
        // A pod that ends meanwhile has lost its namespace.
        if let Err(why) = done
            && agent.world().pods.get(uid).is_some_and(|p| !p.terminating())
        {
            tracing::warn!(error = format!("{why:#}"), "the Services' rules of a pod could not be written");
        }
    }
}

/// Ends and admits pods; returns those to start.
fn pods(agent: &Arc<Agent>, world: &mut World) -> Vec<(Plan, watch::Receiver<Option<u64>>)> {
    let mut plans = Vec::new();
    let deployments: Vec<Object> = world.of_kind("apps", "Deployment").cloned().collect();
    for deployment in &deployments {
        let hash = template_hash(deployment);
        let (start, end) = {
            let steps = deployment_steps(world, deployment, &hash);
            (steps.start, steps.end)
        };
        for uid in end {
            if let Some(pod) = world.pods.get_mut(&uid) {
                pod.terminate(None);
            }
        }
        if start > 0 && !selects_own(deployment) {
            let why = "spec.selector.matchLabels does not select the pods of spec.template: give them the same labels";
            world.problems.insert(deployment.key.clone(), why.into());
            continue;
        }
        for _ in 0..start {
            let pod = pod_of(deployment, &hash);
            plans.extend(admit(agent, world, &deployment.key, pod, Some((deployment.key.clone(), hash.clone())), None));
        }
    }
    let orphaned = |world: &World, pod: &PodEntry| match &pod.owner {
        Some((deployment, _)) => !world.objects.contains_key(deployment),
        None => !world.objects.contains_key(&Key::of("", "Pod", &pod.namespace, &pod.name)),
    };
    let orphans: Vec<String> =
        world.pods.iter().filter(|(_, p)| !p.terminating() && orphaned(world, p)).map(|(uid, _)| uid.clone()).collect();
    for uid in orphans {
        if let Some(pod) = world.pods.get_mut(&uid) {
            pod.terminate(None);
        }
    }
    let written: Vec<Object> = world.of_kind("", "Pod").cloned().collect();
    for object in &written {
        let hash = names::hash(&format!(
            "{}{}{}",
            object.value["spec"], object.value["metadata"]["labels"], object.value["metadata"]["annotations"]
        ));
        let present = world
            .pods
            .values_mut()
            .find(|p| p.owner.is_none() && p.namespace == object.key.namespace && p.name == object.key.name);
        match present {
            // A changed Pod is replaced, when the old one is gone.
            Some(pod) if pod.written != Some(hash) => pod.terminate(None),
            Some(_) => {}
            None => plans.extend(admit(agent, world, &object.key, object.value.clone(), None, Some(hash))),
        }
    }
    plans
}

fn deployment_steps(world: &World, deployment: &Object, hash: &str) -> deployments::Steps {
    let spec = &deployment.value["spec"];
    let replicas = spec["replicas"].as_u64().map_or(1, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let surge = deployments::surge(&spec["strategy"]["rollingUpdate"]["maxSurge"], replicas);
    let mut members: Vec<Member> = world
        .pods
        .iter()
        .filter_map(|(uid, pod)| {
            let (owner, own_hash) = pod.owner.as_ref().filter(|(owner, _)| *owner == deployment.key)?;
            debug_assert_eq!(owner, &deployment.key);
            let over = matches!(pod.status.phase, Phase::Succeeded | Phase::Failed);
            Some(Member {
                uid: uid.clone(),
                current: own_hash == hash,
                available: pod.available(),
                gone: pod.terminating() || over,
            })
        })
        .collect();
    members.sort_by(|a, b| a.uid.cmp(&b.uid));
    deployments::steps(&members, replicas, surge, spec["strategy"]["type"] == "Recreate")
}

/// A Deployment that does not select its own pods is refused by Kubernetes.
fn selects_own(deployment: &Object) -> bool {
    let spec = &deployment.value["spec"];
    let labels = &spec["template"]["metadata"]["labels"];
    let selector = spec["selector"]["matchLabels"].as_object();
    selector.into_iter().flatten().all(|(key, value)| labels[key.as_str()] == *value)
}

pub(crate) fn template_hash(deployment: &Object) -> String {
    names::letters(names::hash(&deployment.value["spec"]["template"].to_string()), 10)
}

/// A Pod from a Deployment's template, named and owned as Kubernetes would do it.
fn pod_of(deployment: &Object, hash: &str) -> Value {
    let template = &deployment.value["spec"]["template"];
    let set = format!("{}-{hash}", deployment.key.name);
    let mut metadata = json!({
        "generateName": format!("{set}-"),
        "name": format!("{set}-{}", names::letters(names::random(), 5)),
        "namespace": deployment.key.namespace,
        "labels": template["metadata"]["labels"].as_object().cloned().unwrap_or_default(),
        "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "controller": true, "blockOwnerDeletion": true,
            "uid": names::stable_uid(&format!("{}/{set}", deployment.key.namespace)),
        }],
    });
    metadata["labels"]["pod-template-hash"] = hash.into();
    if let Some(annotations) = template["metadata"]["annotations"].as_object() {
        metadata["annotations"] = annotations.clone().into();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

/// Makes an entry for a pod: identifiers, defaults, injection, addresses. What is wrong is noted on the object `of`.
fn admit(
    agent: &Arc<Agent>,
    world: &mut World,
    of: &Key,
    mut pod: Value,
    owner: Option<(Key, String)>,
    written: Option<u64>,
) -> Option<(Plan, watch::Receiver<Option<u64>>)> {
    let uid = names::uid();
    pod["metadata"]["uid"] = uid.clone().into();
    pod["metadata"]["creationTimestamp"] = Timestamp::now().to_string().into();
    let Some(spec) = pod["spec"].as_object_mut() else {
        world.problems.insert(of.clone(), "it has no pod specification (spec, or spec.template.spec)".into());
        return None;
    };
    spec.entry("serviceAccountName").or_insert_with(|| "default".into());
    spec.entry("restartPolicy").or_insert_with(|| "Always".into());
    spec.insert("nodeName".into(), NODE_NAME.into());
    let admitted = mesh::admit(world, pod).and_then(|(mut pod, warnings)| {
        strip_nulls(&mut pod);
        let spec: PodSpec = serde_json::from_value(pod["spec"].clone()).map_err(|err| format!("spec: {err}"))?;
        if spec.containers.is_empty() {
            return Err("spec.containers is empty".into());
        }
        Ok((pod, spec, warnings))
    });
    let (pod, spec, warnings) = match admitted {
        Ok(admitted) => admitted,
        Err(why) => {
            world.problems.insert(of.clone(), why);
            return None;
        }
    };
    let Some(addresses) = world.addresses.take_pod() else {
        world.problems.insert(of.clone(), "all pod addresses are used".into());
        return None;
    };
    world.problems.remove(of);
    let mut ignored = spec.ignored();
    ignored.extend(warnings);
    let word = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (namespace, name) = (word("/metadata/namespace"), word("/metadata/name"));
    let (stop, stopped) = watch::channel(None);
    let entry = PodEntry {
        namespace: namespace.clone(),
        name: name.clone(),
        object: pod.clone(),
        spec: spec.clone(),
        status: lifecycle::initial_status(&spec, &addresses),
        owner,
        written,
        deletion: None,
        stop,
        netns: None,
        rules: None,
        ignored,
    };
    world.pods.insert(uid.clone(), entry);
    tracing::info!(pod = %format!("{namespace}/{name}"), address = %addresses[0], "admitted");
    Some((Plan { agent: agent.clone(), uid, namespace, name, object: pod, spec, addresses }, stopped))
}

/// In a manifest, a key without a value means that the key is not given.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}
