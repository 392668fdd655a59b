//! Stars per reviewer: `GET /ratings/{id}`, and `POST /ratings/{id}` with `{"Reviewer1": 3}` to change them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{PORT, book_id};
use crate::net::{listen::listen, serve};
use crate::reply::{self, Body};

/// Books whose ratings were changed and are remembered; beyond it a change is refused.
const BOOKS_MAX: usize = 1024;
/// Reviewers of one book.
const REVIEWERS_MAX: usize = 64;
/// Bytes of a posted body.
const POST_MAX: usize = 16 * 1024;
/// The most stars there are.
const STARS_MAX: u8 = 5;

/// Options of `ratings`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port to listen on
    #[arg(long, default_value_t = PORT)]
    port: u16,
}

/// Stars by reviewer.
type Stars = BTreeMap<String, u8>;

/// What was posted since the start, by book.
#[derive(Debug, Default)]
pub(super) struct Ratings(Mutex<BTreeMap<u64, Stars>>);

/// Serves until told to stop.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let ratings = Arc::new(Ratings::default());
    serve::http(listen(args.port)?, stop, move |request| route(request, ratings.clone())).await;
    Ok(())
}

async fn route(request: Request<Incoming>, ratings: Arc<Ratings>) -> Response<Body> {
    let path = request.uri().path();
    if path == "/health" {
        return reply::json(StatusCode::OK, &json!({"status": "Ratings is healthy"}));
    }
    let Some(id) = path.strip_prefix("/ratings/") else { return reply::not_found() };
    let Some(id) = book_id(id) else { return refused("please give a book's number") };
    match *request.method() {
        Method::GET => reply::json(StatusCode::OK, &json!({"id": id, "ratings": ratings.of(id)})),
        Method::POST => {
            let Ok(body) = Limited::new(request.into_body(), POST_MAX).collect().await else {
                return refused("the body is too long or broke off");
            };
            match ratings.set(id, &body.to_bytes()) {
                Ok(stars) => reply::json(StatusCode::OK, &json!({"id": id, "ratings": stars})),
                Err(why) => refused(why),
            }
        }
        _ => reply::method_not_allowed(),
    }
}

impl Ratings {
    fn of(&self, id: u64) -> Stars {
        let posted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        posted.get(&id).cloned().unwrap_or_else(|| BTreeMap::from([("Reviewer1".into(), 5), ("Reviewer2".into(), 4)]))
    }

    pub(super) fn set(&self, id: u64, body: &[u8]) -> Result<Stars, &'static str> {
        let stars: Stars = serde_json::from_slice(body).map_err(|_| "please give JSON: {\"Reviewer1\": 3}")?;
        if stars.len() > REVIEWERS_MAX || stars.values().any(|&stars| stars > STARS_MAX) {
            return Err("at most 64 reviewers with at most 5 stars each");
        }
        let mut posted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if posted.len() >= BOOKS_MAX && !posted.contains_key(&id) {
            return Err("too many books have ratings of their own");
        }
        posted.insert(id, stars.clone());
        Ok(stars)
    }
}

fn refused(why: &str) -> Response<Body> {
    reply::json(StatusCode::BAD_REQUEST, &json!({"error": why}))
}
