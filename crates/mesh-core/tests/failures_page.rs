//! `docs/failures.md` lists every reason of the catalogue; drift fails, `MESH_UPDATE=1` writes it again.

use std::fmt::Write as _;
use std::path::Path;

use mesh_core::reason::Reason;

const HEAD: &str = r#"# Why did this fail?

Every failure that the mesh makes itself has a reason. The same code stands in the response header `mesh-reason`, in the
access log (`reason`), and in the metric label `reason`; Envoy's response flag stands beside it for tools that read that.
An answer without a `mesh-reason` header came from the application.

```console
$ meshctl sandbox apply -f examples/bookinfo/routing/access-log.yaml -f examples/bookinfo/routing/deny-ratings.yaml
...
authorizationpolicy/nobody-reads-ratings (namespace bookinfo) created
$ meshctl sandbox exec productpage-v1 -n bookinfo -- example-apps fetch -i http://ratings:9080/ratings/0
HTTP/1.1 403
...
mesh-reason: policy_denied
...
$ meshctl sandbox logs ratings-v1 -n bookinfo -c mesh-proxy
...
{...,"path":"/ratings/0",...,"response_code":403,...,"reason":"policy_denied",...}
...
```

| reason | whose fault | flag | HTTP | what happened | what to do |
|---|---|---|---|---|---|
"#;

fn page() -> String {
    let mut page = HEAD.to_owned();
    for reason in Reason::ALL {
        let entry = reason.entry();
        let (code, who, flag, status) = (entry.code, entry.responsible.as_str(), entry.flag, entry.http_status);
        writeln!(page, "| `{code}` | {who} | {flag} | {status} | {} | {} |", entry.cause, entry.next)
            .expect("a String takes everything");
    }
    page
}

#[test]
fn the_page_of_failures_is_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/failures.md");
    if std::env::var_os("MESH_UPDATE").is_some() {
        std::fs::write(&path, page()).expect("docs/ can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/failures.md is not the catalogue; write it: MESH_UPDATE=1 cargo test -p mesh-core"
    );
}
