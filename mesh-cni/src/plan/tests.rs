//! What is written where something is there already, and that nothing of others is touched.

use expect_test::{Expect, expect};

use super::*;
use crate::rules::{Family, rules, tests::defaults};
use crate::saved::parse;

fn wanted() -> Ruleset {
    rules(&defaults(), Family::V4)
}

/// What `iptables-save` shows after the text was applied to an empty table.
fn saved(text: &str) -> String {
    let jump = |line: &str| line.replacen("-I ", "-A ", 1).replacen(" 1 ", " ", 1);
    text.lines().map(|line| if line.starts_with("-I ") { jump(line) } else { line.to_owned() } + "\n").collect()
}

#[track_caller]
fn check(saved: &str, expect: Expect) {
    let saved = parse(saved);
    let found = differences(&wanted().tables[0], saved.get("nat").unwrap_or(&SavedTable::default()));
    expect.assert_eq(&found.join("\n"));
    assert_eq!(plan(&wanted(), &saved).is_some(), !found.is_empty(), "a difference is a plan");
}

#[test]
fn an_empty_namespace_gets_everything() {
    let nothing = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";
    assert_eq!(plan(&wanted(), &parse(nothing)), Some(wanted().render()));
    assert_eq!(plan(&wanted(), &parse("")), Some(wanted().render()));
}

#[test]
fn what_is_in_place_is_left_alone() {
    let text = saved(&wanted().render());
    check(&text, expect![""]);
    // As an older or newer program would print it.
    let other = text
        .replace("-p tcp -m tcp --dport 15020", "-m tcp -p tcp --dport 15020")
        .replace("-s 127.0.0.6/32 -o lo", "-o lo -s 127.0.0.6/32")
        .replace("--to-ports 15001", "--to-port 15001");
    assert_ne!(other, text);
    check(&other, expect![""]);
}

#[test]
fn drift_is_seen() {
    let text = saved(&wanted().render());
    check(
        &text.replace("--to-ports 15001", "--to-ports 15002"),
        expect![
            "chain MESH_REDIRECT, rule 1: `-p tcp -j REDIRECT --to-ports 15002` instead of `-p tcp -j REDIRECT --to-ports 15001`"
        ],
    );
    check(
        &text.replace("! --uid-owner", "--uid-owner"),
        expect![
            "chain MESH_OUTPUT, rule 3: `-o lo -m owner --uid-owner 1337 -j RETURN` instead of `-o lo -m owner ! --uid-owner 1337 -j RETURN`"
        ],
    );
    check(&text.replace("-A OUTPUT -j MESH_OUTPUT\n", ""), expect!["OUTPUT does not lead into the mesh's chains"]);
    check(
        &text.replace("-A OUTPUT -j MESH_OUTPUT\n", "-A OUTPUT -j MESH_OUTPUT\n-A OUTPUT -j MESH_OUTPUT\n"),
        expect!["OUTPUT does not lead into the mesh's chains with exactly its first rule"],
    );
    check(
        &text.replace(
            "-A OUTPUT -j MESH_OUTPUT\n",
            "-A OUTPUT -d 10.96.0.1/32 -j DNAT --to-destination 10.0.0.1\n-A OUTPUT -j MESH_OUTPUT\n",
        ),
        expect!["OUTPUT does not lead into the mesh's chains with exactly its first rule"],
    );
    check(
        &text.replace("-A MESH_OUTPUT -d 127.0.0.1/32 -j RETURN\n", ""),
        expect!["chain MESH_OUTPUT has 6 rules instead of 7"],
    );
    check(
        &text.replace("COMMIT", ":MESH_OLD - [0:0]\n-A INPUT -j MESH_OLD\nCOMMIT"),
        expect![[r#"
        chain MESH_OLD is not wanted any more
        INPUT leads into the mesh's chains and should not"#]],
    );
}

#[test]
fn the_plan_for_a_drifted_table_touches_only_what_is_ours() {
    let present = "\
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:MESH_OLD - [0:0]
:MESH_OUTPUT - [0:0]
-A OUTPUT -j KUBE-SERVICES
-A OUTPUT -p tcp -j MESH_OLD
-A MESH_OLD -j MESH_OUTPUT
-A KUBE-SERVICES -d 10.96.0.1/32 -j RETURN
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -j ACCEPT
COMMIT
";
    let text = plan(&wanted(), &parse(present)).expect("something is to be done");
    assert_eq!(
        text,
        wanted()
            .render()
            .replacen("*nat\n", "*nat\n:MESH_OLD - [0:0]\n-D OUTPUT -p tcp -j MESH_OLD\n", 1,)
            .replace("COMMIT", "-X MESH_OLD\nCOMMIT")
    );
}

#[test]
fn removal_takes_our_chains_from_every_table_and_nothing_else() {
    let present = "\
*raw
:OUTPUT ACCEPT [0:0]
:MESH_OUTPUT_DNS - [0:0]
-A OUTPUT -p udp -j MESH_OUTPUT_DNS
COMMIT
*nat
:OUTPUT ACCEPT [0:0]
:MESH_OUTPUT - [0:0]
:MESH_REDIRECT - [0:0]
:OTHER - [0:0]
-A OUTPUT -j MESH_OUTPUT
-A OUTPUT -m comment --comment \"goes to MESH_OUTPUT\" -j OTHER
-A MESH_OUTPUT -j MESH_REDIRECT
COMMIT
*filter
:INPUT ACCEPT [0:0]
COMMIT
";
    expect![[r#"
        *nat
        :MESH_OUTPUT - [0:0]
        :MESH_REDIRECT - [0:0]
        -D OUTPUT -j MESH_OUTPUT
        -X MESH_OUTPUT
        -X MESH_REDIRECT
        COMMIT
        *raw
        :MESH_OUTPUT_DNS - [0:0]
        -D OUTPUT -p udp -j MESH_OUTPUT_DNS
        -X MESH_OUTPUT_DNS
        COMMIT
    "#]]
    .assert_eq(&plan(&Ruleset::default(), &parse(present)).expect("there is something to remove"));
    assert_eq!(plan(&Ruleset::default(), &parse("*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j OTHER\nCOMMIT\n")), None);
}
