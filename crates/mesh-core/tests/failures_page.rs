//! `docs/failures.md` lists every reason of the catalogue; drift fails, `MESH_UPDATE=1` writes it again.

use std::fmt::Write as _;
use std::path::Path;

use mesh_core::reason::Reason;

const HEAD: &str = "# Why did this fail?

Every failure that the mesh makes itself has a reason. The same code stands in the response header `mesh-reason`, in the
access log (`reason`), and in the metric label `reason`; Envoy's response flag stands beside it for tools that read that.
An answer without a `mesh-reason` header came from the application.

```console
$ meshctl sandbox exec -n bookinfo productpage-v1 -- example-apps fetch http://reviews:9080/reviews/0
$ meshctl sandbox logs -n bookinfo productpage-v1 -c mesh-proxy
```

| reason | whose fault | flag | HTTP | what happened | what to do |
|---|---|---|---|---|---|
";

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
