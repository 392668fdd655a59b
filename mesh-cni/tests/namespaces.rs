//! The rules at work, in network namespaces that each test makes for itself: set twice, drifted, removed, and with real
//! connections, for both backends and both families.
//!
//! A namespace belongs to a thread, and ends with it. Users are a thread's file system ids, which is what the kernel
//! compares with the owner of a socket. Needs root and the packages iptables and iproute2.

mod world;

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;

use world::{APP, PROXY, in_pod, in_two_pods, listeners, sh};

const BACKENDS: [&str; 2] = ["nft", "legacy"];

#[test]
fn applying_twice_is_applying_once() {
    in_pod(|pod| {
        for backend in BACKENDS {
            let first = pod.init(&["--backend", backend, "-o", "json"]);
            assert!(first.contains("\"changed\":true"), "{first}");
            let rules = pod.rules(backend);
            assert_eq!(rules.matches(":MESH_").count(), 8, "{rules}");
            let second = pod.init(&["--backend", backend, "-o", "json"]);
            assert!(second.contains("\"changed\":false"), "{second}");
            assert_eq!(pod.rules(backend), rules);
            assert!(sh("ip -6 addr show dev lo").contains("inet6 ::6/128"));
        }
        assert!(!pod.rules("nft").contains("MESH_"), "the earlier backend's rules were removed");
    });
}

#[test]
fn drift_is_put_right() {
    in_pod(|pod| {
        for backend in BACKENDS {
            pod.init(&["--backend", backend]);
            let rules = pod.rules(backend);
            sh(&format!("iptables-{backend} -w -t nat -F MESH_REDIRECT"));
            sh(&format!("iptables-{backend} -w -t nat -I OUTPUT 1 -p tcp -d 192.0.2.1 -j ACCEPT"));
            sh(&format!("ip6tables-{backend} -w -t nat -D PREROUTING -p tcp -j MESH_INBOUND"));
            assert!(pod.init(&["--backend", backend, "-o", "json"]).contains("\"changed\":true"));
            let now = pod.rules(backend);
            assert_eq!(now.replace("-A OUTPUT -d 192.0.2.1/32 -p tcp -j ACCEPT\n", ""), rules);
            let (ours, theirs) = (now.find("-A OUTPUT -j MESH_OUTPUT"), now.find("-A OUTPUT -d 192.0.2.1/32"));
            assert!(ours < theirs, "the mesh's rule comes first again: {now}");
            sh(&format!("iptables-{backend} -w -t nat -D OUTPUT -p tcp -d 192.0.2.1 -j ACCEPT"));
            pod.init(&["--clean-up"]);
        }
    });
}

#[test]
fn clean_up_leaves_what_was_there() {
    in_pod(|pod| {
        for backend in BACKENDS {
            sh(&format!("iptables-{backend} -w -t nat -N OTHER"));
            sh(&format!("iptables-{backend} -w -t nat -A OUTPUT -p tcp -d 10.96.0.1 --dport 80 -j OTHER"));
            sh(&format!("iptables-{backend} -w -t nat -A OTHER -p tcp -j DNAT --to-destination 10.0.0.5:8080"));
            sh(&format!("ip6tables-{backend} -w -t nat -A POSTROUTING -s fd00::7 -j MASQUERADE"));
            let before = pod.rules(backend);
            // Without being told: the backend in use is the one with rules.
            let report = pod.init(&["-o", "json", "--exclude-outbound-ports", "25"]);
            assert!(report.contains(&format!("\"backend\":\"{backend}\"")), "{report}");
            assert_ne!(pod.rules(backend), before);
            assert!(pod.init(&["--clean-up"]).contains("removed"));
            assert_eq!(pod.rules(backend), before);
            assert!(pod.init(&["--clean-up"]).contains("there were no redirect rules"));
            sh(&format!(
                "iptables-{backend} -w -t nat -F; iptables-{backend} -w -t nat -X; ip6tables-{backend} -w -t nat -F"
            ));
        }
    });
}

#[test]
fn without_rules_of_others_nf_tables_is_taken() {
    in_pod(|pod| assert!(pod.init(&["-o", "json"]).contains("\"backend\":\"nft\"")));
}

#[test]
fn rules_for_dns_can_be_set_and_taken_back() {
    in_pod(|pod| {
        for backend in BACKENDS {
            pod.init(&["--backend", backend, "--dns-capture"]);
            let second = pod.init(&["--backend", backend, "--dns-capture", "-o", "json"]);
            assert!(second.contains("\"changed\":false"), "what was read back means what was written: {second}");
            pod.init(&["--backend", backend]);
            assert!(!pod.rules(backend).contains("DNS"), "{}", pod.rules(backend));
            pod.init(&["--clean-up"]);
        }
    });
}

#[test]
fn without_ipv6_there_are_no_rules_for_it() {
    in_pod(|pod| {
        sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6");
        let report = pod.init(&["-o", "json"]);
        assert!(report.contains("IPv6 is off") && !report.contains("\"family\":\"IPv6\""), "{report}");
    });
}

#[test]
fn failures_have_their_exit_codes() {
    in_pod(|pod| {
        let (code, text) = pod.try_init(&[], |command| {
            command.uid(APP);
        });
        assert_eq!(code, 3, "{text}");
        assert!(text.contains("NET_ADMIN"), "{text}");
        let (code, text) = pod.try_init(&[], |command| {
            command.env("PATH", "/nonexistent");
        });
        assert_eq!(code, 4, "{text}");
        let (code, _) = pod.try_init(&["--exclude-outbound-ports", "http"], |_| {});
        assert_eq!(code, 2);
        // Printing needs neither rights nor programs.
        let (code, text) = pod.try_init(&["--dry-run"], |command| {
            command.uid(APP).env("PATH", "/nonexistent");
        });
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("127.0.0.6/32") && text.contains("::6/128"));
    });
}

#[test]
fn a_read_only_root_file_system_is_enough() {
    in_pod(|pod| {
        let script = format!(
            "mount --make-rprivate / && mount --bind /run /run && mount -o remount,ro,bind /run && {} init --backend legacy",
            world::PROGRAM
        );
        sh(&format!("unshare -m sh -c '{script}'"));
        assert!(pod.rules("legacy").contains("MESH_OUTPUT"));
    });
}

/// A folder for PATH with links to some real programs, and scripts in the place of others.
fn programs(real: &[&str], scripts: &[(&str, &str)]) -> tempfile::TempDir {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().expect("a directory");
    for program in real {
        let path = sh(&format!("command -v {program}"));
        symlink(path.trim(), folder.path().join(program)).expect("a link");
    }
    for (program, script) in scripts {
        let path = folder.path().join(program);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("may be run");
    }
    folder
}

#[test]
fn without_the_programs_for_ipv6_only_a_pod_with_ipv6_addresses_fails() {
    in_pod(|pod| {
        let bin = programs(&["iptables-nft-save", "iptables-nft-restore"], &[]);
        let (code, text) = pod.try_init(&[], |command| {
            command.env("PATH", bin.path());
        });
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("note: no rules for IPv6"), "{text}");
        sh(
            "ip link add eth0 type veth peer name other && ip -6 addr add fd00::7/64 dev eth0 nodad && ip link set eth0 up",
        );
        let (code, text) = pod.try_init(&[], |command| {
            command.env("PATH", bin.path());
        });
        assert_eq!(code, 4, "{text}");
    });
}

#[test]
fn a_backend_that_the_kernel_lacks_is_passed_over() {
    in_pod(|pod| {
        let legacy =
            ["iptables-legacy-save", "iptables-legacy-restore", "ip6tables-legacy-save", "ip6tables-legacy-restore"];
        let lacking = "[ \"$1\" = --version ] && exit; echo 'Could not fetch rule set generation id: Invalid argument' >&2; exit 1";
        let nft = ["iptables-nft-save", "iptables-nft-restore", "ip6tables-nft-save", "ip6tables-nft-restore"];
        let bin = programs(&legacy, &nft.map(|program| (program, lacking)));
        let (code, text) = pod.try_init(&["-o", "json"], |command| {
            command.env("PATH", bin.path());
        });
        assert_eq!((code, text.matches("\"backend\":\"legacy\"").count()), (0, 2), "{text}");
        assert!(pod.rules("legacy").contains("MESH_OUTPUT"));
        let (code, text) = pod.try_init(&["--backend", "nft"], |command| {
            command.env("PATH", bin.path());
        });
        assert_eq!(code, 5, "{text}");
    });
}

#[test]
fn rules_that_are_not_there_after_writing_are_noticed() {
    in_pod(|pod| {
        let bin = programs(&["iptables-nft-save"], &[("iptables-nft-restore", "exit 0")]);
        let (code, text) = pod.try_init(&["--backend", "nft"], |command| {
            command.env("PATH", bin.path());
        });
        assert_eq!(code, 6, "{text}");
        assert!(text.contains("chain MESH_OUTPUT is missing"), "{text}");
    });
}

/// Outgoing: the application's connections arrive at 15001 with their destination known; the proxy's own do not.
#[test]
fn outgoing_connections_are_captured() {
    in_two_pods(|pod, client| {
        let far = |port| client.addresses.map(|address| SocketAddr::new(address, port));
        let servers = client.listen(8000);
        let excluded = client.listen(3306);
        for backend in BACKENDS {
            pod.init(&["--backend", backend, "--exclude-outbound-ports", "3306"]);
            let proxy = listeners(15001);
            for (at, far) in far(8000).into_iter().enumerate() {
                let seen = pod.connect_as(APP, far, &proxy[at]);
                assert_eq!(seen.original, Some(far), "{backend}: captured, with its destination");
                let seen = pod.connect_as(PROXY, far, &servers[at]);
                assert_eq!(seen.original, None, "{backend}: the proxy's own connection goes out");
                let seen = pod.connect_as_group(APP, PROXY, far, &servers[at]);
                assert_eq!(seen.original, None, "{backend}: so does one of its group");
            }
            for (at, far) in far(3306).into_iter().enumerate() {
                pod.connect_as(APP, far, &excluded[at]);
            }
            pod.init(&["--clean-up"]);
        }
    });
}

/// Whatever does not leave the pod: an application's own traffic passes, the proxy's to an own address is inbound.
#[test]
fn connections_inside_the_pod_are_told_apart() {
    in_two_pods(|pod, _| {
        let app = listeners(8080);
        for backend in BACKENDS {
            pod.init(&["--backend", backend]);
            let inbound = listeners(15006);
            for at in 0..2 {
                let own = SocketAddr::new(pod.addresses[at], 8080);
                assert_eq!(pod.connect_as(APP, own, &app[at]).original, None, "{backend}: to itself by its address");
                let seen = pod.connect_as(PROXY, own, &inbound[at]);
                assert_eq!(seen.original, Some(own), "{backend}: its own Service, by way of the proxy");
                let home = SocketAddr::new(world::loopback(at), 8080);
                assert_eq!(pod.connect_as(APP, home, &app[at]).original, None);
                assert_eq!(pod.connect_as(PROXY, home, &app[at]).original, None);
                // The inbound proxy reaches the application from 127.0.0.6 or ::6 without meeting itself again.
                let seen = pod.connect_from(PROXY, Some(world::passthrough(at)), own, &app[at]);
                assert_eq!((seen.original, seen.peer.ip()), (None, world::passthrough(at)));
            }
            pod.init(&["--clean-up"]);
        }
    });
}

/// Incoming connections arrive at 15006, excluded ports at their own.
#[test]
fn incoming_connections_are_captured() {
    in_two_pods(|pod, client| {
        let (health, plain) = (listeners(15021), listeners(22));
        for backend in BACKENDS {
            pod.init(&["--backend", backend, "--exclude-inbound-ports", "15021,22"]);
            let inbound = listeners(15006);
            for at in 0..2 {
                let to = |port| SocketAddr::new(pod.addresses[at], port);
                let seen = client.connect_to(to(8080), &inbound[at]);
                assert_eq!(seen.original, Some(to(8080)), "{backend}");
                assert_eq!(client.connect_to(to(15021), &health[at]).original, None, "{backend}");
                assert_eq!(client.connect_to(to(22), &plain[at]).original, None, "{backend}");
            }
            pod.init(&["--clean-up"]);
        }
    });
}
