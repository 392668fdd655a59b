//! Files to events: what a broken file, a missing one, and two with the same object do.

use std::time::Duration;

use tokio::sync::mpsc;

use super::tree::{Taken, Tree};
use super::{Event, Files, Source};
use crate::testing::{World, eventually, namespace, pod, service};

/// What a scan said, in a form that reads well.
fn said(events: Vec<Event>) -> Vec<String> {
    let mut lines: Vec<String> = events
        .into_iter()
        .map(|event| match event {
            Event::Apply(loaded) => format!("+ {}", loaded.reference()),
            Event::Moved(loaded) => format!("= {}", loaded.reference()),
            Event::Remove(reference) => format!("- {reference}"),
            Event::Files(problems) => format!("{} problems", problems.len()),
            Event::Synced => "synced".to_owned(),
            Event::Barrier(_) => "~ barrier".to_owned(),
        })
        .collect();
    lines.sort();
    lines
}

fn none() -> Option<String> {
    None
}

const BROKEN: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: [\n";

#[test]
fn only_what_changed_is_applied() {
    let mut tree = Tree::default();
    let two = format!("{}{}", service("shop", "a", "10.96.0.1"), service("shop", "b", "10.96.0.2"));
    assert_eq!(tree.file("x.yaml", &two, none), Taken::Used);
    assert_eq!(said(tree.changes()), ["+ Service shop/a", "+ Service shop/b"]);
    assert_eq!(tree.file("x.yaml", &two, none), Taken::Same);
    assert!(tree.changes().is_empty());
    let one_changed = format!("{}{}", service("shop", "a", "10.96.0.9"), service("shop", "b", "10.96.0.2"));
    tree.file("x.yaml", &one_changed, none);
    assert_eq!(said(tree.changes()), ["+ Service shop/a", "= Service shop/b"]);
    tree.file("x.yaml", &service("shop", "b", "10.96.0.2"), none);
    assert_eq!(said(tree.changes()), ["- Service shop/a", "= Service shop/b"]);
    assert_eq!(tree.retain(|_| false), ["x.yaml"]);
    assert_eq!(said(tree.changes()), ["- Service shop/b"]);
}

#[test]
fn while_a_file_is_broken_its_objects_stay() {
    let mut tree = Tree::default();
    tree.file("x.yaml", &service("shop", "a", "10.96.0.1"), none);
    tree.changes();
    let broken = format!("{}---\n{BROKEN}", service("shop", "other", "10.96.0.3"));
    assert_eq!(tree.file("x.yaml", &broken, none), Taken::Broken);
    assert!(tree.changes().is_empty(), "neither is the old one gone nor the new one there");
    let problems = tree.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].file, "x.yaml");
    assert!(problems[0].line > 10, "{problems:?}");
    assert!(problems[0].message.contains("its 1 objects stay as they last were"), "{problems:?}");
    tree.file("x.yaml", &service("shop", "a", "10.96.0.1"), none);
    assert!(tree.problems().is_empty());
}

#[test]
fn after_a_restart_a_broken_file_means_what_it_last_meant() {
    let mut tree = Tree::default();
    let taken = tree.file("x.yaml", BROKEN, || Some(service("shop", "a", "10.96.0.1")));
    assert_eq!(taken, Taken::Broken);
    assert_eq!(said(tree.changes()), ["+ Service shop/a"]);
    let mut fresh = Tree::default();
    fresh.file("x.yaml", BROKEN, none);
    assert!(fresh.changes().is_empty());
    assert!(fresh.problems()[0].message.contains("nothing of this file is used"));
}

#[test]
fn of_two_files_with_one_object_the_first_path_wins() {
    let mut tree = Tree::default();
    tree.file("b.yaml", &service("shop", "a", "10.96.0.2"), none);
    tree.changes();
    tree.file("a.yaml", &service("shop", "a", "10.96.0.1"), none);
    assert_eq!(said(tree.changes()), ["+ Service shop/a"], "the first path takes over");
    let problems = tree.problems();
    assert_eq!((problems[0].file.as_str(), problems.len()), ("b.yaml", 1));
    assert!(problems[0].message.contains("already defined in a.yaml:"), "{problems:?}");
    tree.retain(|path| path == "b.yaml");
    assert_eq!(said(tree.changes()), ["+ Service shop/a"], "and the second comes back");
    assert!(tree.problems().is_empty());
}

#[test]
fn a_generation_is_a_hash_of_the_specification() {
    let load = |text: &str| {
        let mut tree = Tree::default();
        tree.file("x.yaml", text, none);
        match tree.changes().remove(0) {
            Event::Apply(loaded) => loaded.object.meta().generation,
            other => panic!("{other:?}"),
        }
    };
    let rule = |labels: &str, host: &str, generation: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: a, namespace: b{labels}{generation}}}\nspec: {{host: {host}}}\n"
        )
    };
    let plain = load(&rule("", "x", ""));
    assert!(plain > 0);
    assert_eq!(load(&rule(", labels: {a: b}", "x", "")), plain);
    assert_ne!(load(&rule("", "y", "")), plain);
    assert_eq!(load(&rule("", "x", ", generation: 7")), 7);
}

#[test]
fn foreign_kinds_are_passed_over_but_unknown_mesh_kinds_are_kept_for_status() {
    let mut tree = Tree::default();
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\n\
                apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f, namespace: n}\n";
    tree.file("x.yaml", text, none);
    assert_eq!(said(tree.changes()), ["+ EnvoyFilter n/f"]);
}

#[tokio::test]
async fn files_are_followed_with_their_folders() {
    let (config, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(config.path().join("deep")).unwrap();
    std::fs::write(config.path().join("deep/a.yml"), service("shop", "a", "10.96.0.1")).unwrap();
    std::fs::write(config.path().join("notes.txt"), BROKEN).unwrap();
    std::fs::write(config.path().join(".hidden.yaml"), BROKEN).unwrap();
    let (sender, mut events) = mpsc::channel(4);
    let (barriers, asked) = mpsc::channel(1);
    let task = tokio::spawn(Box::new(Files::new(config.path(), state.path())).run(sender, asked));
    assert_eq!(said(events.recv().await.unwrap()), ["+ Service shop/a", "synced"]);
    std::fs::create_dir(config.path().join("later")).unwrap();
    std::fs::write(
        config.path().join("later/b.json"),
        serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}
        })
        .to_string(),
    )
    .unwrap();
    assert_eq!(said(events.recv().await.unwrap()), ["+ Namespace n"]);
    std::fs::remove_dir_all(config.path().join("deep")).unwrap();
    assert_eq!(said(events.recv().await.unwrap()), ["- Service shop/a"]);
    // Whoever asks finds what he wrote before the answer, whether inotify was quicker or not.
    std::fs::write(config.path().join("c.yaml"), service("shop", "c", "10.96.0.3")).unwrap();
    barriers.send(tokio::sync::oneshot::channel().0).await.unwrap();
    let mut lines = Vec::new();
    while !lines.contains(&"~ barrier".to_owned()) {
        lines.extend(said(events.recv().await.unwrap()));
    }
    assert_eq!(lines, ["+ Service shop/c", "~ barrier"]);
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_is_reported_and_survives_a_restart() {
    let client = pod("shop", "client-1", "uid-client", "client", "10.244.0.10");
    let mut world = World::new(&[
        ("ns.yaml", &namespace("shop")),
        ("client.yaml", &client),
        ("reviews.yaml", &service("shop", "reviews", "10.96.0.20")),
    ])
    .await;
    world.write("reviews.yaml", BROKEN);
    let is_reported = async || {
        let status = world.api("/v1/status").await;
        let file = status.as_array().unwrap().iter().find(|one| one["kind"] == "File");
        file.is_some_and(|file| {
            let source = file["problems"][0]["source"].as_str().unwrap();
            file["accepted"] == false && source.starts_with("reviews.yaml:")
        })
    };
    eventually("the file is reported", is_reported).await;
    for _ in 0..2 {
        let mut proxy = world.proxy("uid-client", "shop", "client").await;
        let name = "service/shop/reviews.shop.svc.cluster.local";
        proxy.subscribe(mesh_core::config::ResourceKind::Service, &[name]).await;
        assert_eq!(crate::testing::said(&proxy.next().await), [name]);
        drop(proxy);
        world.stop().await;
        world.start().await;
    }
    // A removed file takes its objects with it, also the kept ones.
    world.remove("reviews.yaml");
    eventually("it is gone", async || {
        let status = world.api("/v1/status").await;
        status.as_array().unwrap().iter().all(|one| one["kind"] != "Service" && one["kind"] != "File")
    })
    .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
}
