//! Sharing, marks, and the windows of publication.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_compile::{Objects, Options};
use mesh_core::config::ResourceName;
use mesh_crd::parse_documents;

use super::{Debounce, Mailbox, Published, StreamId};
use crate::testing::{namespace, pod, service, slice};

fn objects(text: &str) -> Objects {
    let mut objects = Objects::new(Options::default());
    apply(&mut objects, text);
    objects
}

fn apply(objects: &mut Objects, text: &str) -> mesh_compile::Affected {
    let (parsed, errors) = parse_documents(text, "test.yaml");
    assert!(errors.is_empty(), "{errors:?}");
    let mut affected = mesh_compile::Affected::default();
    for one in parsed {
        affected.merge(objects.apply(one.object));
    }
    affected
}

fn name(text: &str) -> ResourceName {
    text.parse().unwrap()
}

#[test]
fn namespaces_that_see_the_same_share_the_bytes() {
    let text = format!("{}{}{}", namespace("a"), namespace("b"), service("a", "web", "10.96.0.1"));
    let objects = objects(&text);
    let mut published = Published::default();
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    published.open(StreamId(1), a.clone(), Arc::default());
    published.open(StreamId(2), b.clone(), Arc::default());
    let web = name("service/a/web.a.svc.cluster.local");
    published.subscribe(&objects, StreamId(1), &web);
    published.subscribe(&objects, StreamId(2), &web);
    let (seen_by_a, seen_by_b) = (published.get(&a, &web).unwrap(), published.get(&b, &web).unwrap());
    assert!(Arc::ptr_eq(&seen_by_a, &seen_by_b));
    assert_eq!(published.len(), 2);
    published.close(StreamId(1), [web.clone()].iter());
    published.close(StreamId(2), [web].iter());
    assert_eq!(published.len(), 0, "nobody holds it, so it is not kept");
}

#[test]
fn only_what_is_held_is_compiled_and_only_what_differs_is_marked() {
    let mut objects = objects(&format!("{}{}", namespace("a"), service("a", "web", "10.96.0.1")));
    let mut published = Published::default();
    let mailbox = Arc::new(Mailbox::default());
    published.open(StreamId(1), "a".into(), mailbox.clone());
    let web = name("service/a/web.a.svc.cluster.local");
    published.subscribe(&objects, StreamId(1), &web);

    let unrelated = apply(&mut objects, &service("a", "other", "10.96.0.2"));
    assert_eq!(published.refresh(&objects, &unrelated, Instant::now()), 0);
    let same = apply(&mut objects, &service("a", "web", "10.96.0.1"));
    published.refresh(&objects, &same, Instant::now());
    assert!(mailbox.take().normal.is_empty(), "the same bytes go nowhere");
    let changed = apply(&mut objects, &service("a", "web", "10.96.0.3"));
    assert_eq!(published.refresh(&objects, &changed, Instant::now()), 1);
    assert_eq!(mailbox.take().normal.into_keys().collect::<Vec<_>>(), [web]);
}

#[test]
fn the_fast_lane_takes_away_and_adds_nothing() {
    let (one, two) = (("p1", "u1", "10.244.0.1", true), ("p2", "u2", "10.244.0.2", true));
    let three = ("p3", "u3", "10.244.0.3", true);
    let pods = [one, two, three].map(|(name, uid, ip, _)| pod("a", name, uid, "web", ip)).concat();
    let begin = [namespace("a"), pods, service("a", "web", "10.96.0.1"), slice("a", "web", &[one, two])].concat();
    let mut objects = objects(&begin);
    let mut published = Published::default();
    let mailbox = Arc::new(Mailbox::default());
    let view: Arc<str> = "a".into();
    published.open(StreamId(1), view.clone(), mailbox.clone());
    let all = name("endpoints/a/web.a.svc.cluster.local/*");
    let ResourceName::Endpoints(web) = all.clone() else { panic!() };
    published.subscribe(&objects, StreamId(1), &all);
    assert_eq!(published.members(&view, &web).len(), 2);

    let affected = apply(&mut objects, &slice("a", "web", &[one, three]));
    published.refresh_urgent(&objects, &affected, Instant::now());
    let marks = mailbox.take();
    assert!(marks.normal.is_empty());
    let member = |uid: &str| ResourceName::Endpoint(web.clone(), uid.into());
    assert_eq!(marks.urgent.into_keys().collect::<Vec<_>>(), [member("u2"), all.clone()]);
    assert_eq!(published.members(&view, &web), ["u1".into()]);

    published.refresh(&objects, &affected, Instant::now());
    assert_eq!(mailbox.take().normal.into_keys().collect::<Vec<_>>(), [member("u3"), all]);
}

#[test]
fn the_first_change_is_published_at_once_and_a_storm_in_growing_windows() {
    let mut debounce = Debounce::default();
    assert_eq!(debounce.due(), None);
    let begin = Instant::now();
    debounce.changed();
    assert!(debounce.due().unwrap() <= Instant::now());
    let mut now = begin;
    debounce.published(now);
    let mut windows = Vec::new();
    for _ in 0..5 {
        debounce.changed();
        let due = debounce.due().unwrap();
        windows.push((due - now).as_millis());
        now = due;
        debounce.published(now);
    }
    assert_eq!(windows, [10, 100, 400, 400, 400]);
    // Silence: the next is published at once, and windows begin anew.
    now += Duration::from_secs(5);
    debounce.changed();
    assert!(debounce.due().unwrap() <= now);
    debounce.published(now);
    debounce.changed();
    assert_eq!(debounce.due().unwrap() - now, Duration::from_millis(10));
}
