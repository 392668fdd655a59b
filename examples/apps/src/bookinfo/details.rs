//! The facts about a book: `GET /details/{id}`.

use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{PORT, book_id};
use crate::net::{listen::listen, serve};
use crate::reply::{self, Body};

/// Options of `details`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port to listen on
    #[arg(long, default_value_t = PORT)]
    port: u16,
    /// Version that the answers name
    #[arg(long, default_value = "v1")]
    version: String,
}

/// Serves until told to stop.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = listen(args.port)?;
    let version: std::sync::Arc<str> = args.version.into();
    serve::http(listener, stop, move |request| {
        let answer = route(&request, &version);
        async move { answer }
    })
    .await;
    Ok(())
}

pub(super) fn route<B>(request: &Request<B>, version: &str) -> Response<Body> {
    let path = request.uri().path();
    if path == "/health" {
        return reply::json(StatusCode::OK, &json!({"status": "Details is healthy"}));
    }
    let Some(id) = path.strip_prefix("/details/") else { return reply::not_found() };
    if request.method() != Method::GET {
        return reply::method_not_allowed();
    }
    match book_id(id) {
        Some(id) => reply::json(StatusCode::OK, &book(id, version)),
        None => reply::json(StatusCode::BAD_REQUEST, &json!({"error": "please give a book's number"})),
    }
}

fn book(id: u64, version: &str) -> serde_json::Value {
    json!({
        "id": id,
        "author": "William Shakespeare",
        "year": 1594,
        "type": "paperback",
        "pages": 128,
        "publisher": "Two Twins Press",
        "language": "English",
        "ISBN-10": "0000000000",
        "ISBN-13": "000-0000000000",
        "version": version,
    })
}
