//! `meshctl inject`: the injector of the webhook and the sandbox, for manifests in a file.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use mesh_sandbox::client;
use serde_json::Value;

use crate::cli::{self, Format};
use crate::output::{self, WAITING};

/// Prints the manifests with the sidecar added to every pod in them; other objects pass unchanged.
pub(crate) fn run(args: &cli::Inject) -> anyhow::Result<ExitCode> {
    let settings: mesh_inject::Settings = match &args.settings {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_saphyr::from_str(&text).map_err(|err| anyhow::anyhow!("{}: {err}", path.display()))?
        }
        None => mesh_inject::Settings::default(),
    };
    let mut out = Vec::new();
    for file in client::read_files(std::slice::from_ref(&args.file))? {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&file.text).map_err(|err| anyhow::anyhow!("{}: {err}", file.path))?;
        for document in documents.into_iter().filter(|d| !d.is_null()) {
            let injected = mesh_inject::inject_document_explained(&document, &settings);
            let injected = injected.map_err(|err| anyhow::anyhow!("{}: {}: {err}", file.path, title(&document)))?;
            match injected {
                Some(injected) => {
                    for warning in &injected.warnings {
                        output::note(format_args!("{WAITING}warning:{WAITING:#} {}: {warning}", title(&document)));
                    }
                    out.push(injected.pod);
                }
                None => out.push(document),
            }
        }
    }
    ensure!(!out.is_empty(), "{} holds no objects", args.file.display());
    match args.output {
        Format::Json if out.len() == 1 => output::line(serde_json::to_string_pretty(&out[0])?),
        Format::Json => output::line(serde_json::to_string_pretty(
            &serde_json::json!({"apiVersion": "v1", "kind": "List", "items": out}),
        )?),
        Format::Text | Format::Yaml => {
            let texts: Result<Vec<String>, _> = out.iter().map(serde_saphyr::to_string).collect();
            output::line(texts?.iter().map(|t| t.trim_end()).collect::<Vec<_>>().join("\n---\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn title(document: &Value) -> String {
    let word = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned();
    format!("{}/{}", word("/kind").to_ascii_lowercase(), word("/metadata/name"))
}
