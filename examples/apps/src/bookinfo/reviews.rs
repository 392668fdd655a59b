//! What people say about a book: `GET /reviews/{id}`.
//!
//! Version 1 has words only; version 2 adds black stars and version 3 red ones, which both get from `ratings`. When
//! `ratings` does not answer, the words still come, and the place of the stars says so.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::passing::passed_on;
use super::upstream::Upstream;
use super::{PORT, book_id};
use crate::net::{listen::listen, serve};
use crate::reply::{self, Body};

/// How long `ratings` may take.
const RATINGS_TIME_MAX: Duration = Duration::from_millis(2500);

/// Who says what.
const REVIEWS: [(&str, &str); 2] = [
    ("Reviewer1", "Two pairs of twins, one town, and nobody checks who is who. A warning to anyone who trusts a face."),
    ("Reviewer2", "Short, loud and very funny. Everybody is mistaken for somebody, and it still ends well."),
];

/// Options of `reviews`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port to listen on
    #[arg(long, default_value_t = PORT)]
    port: u16,
    /// Which of the three this is
    #[arg(long, value_enum, env = "SERVICE_VERSION", default_value = "v1")]
    version: Version,
    /// Host that serves ratings
    #[arg(long, env = "RATINGS_HOSTNAME", default_value = "ratings")]
    ratings_host: String,
    /// Port of ratings
    #[arg(long, env = "RATINGS_SERVICE_PORT", default_value_t = PORT)]
    ratings_port: u16,
}

/// The three versions of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Version {
    V1,
    V2,
    V3,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::V2 => "v2",
            Version::V3 => "v3",
        }
    }

    /// The colour of the stars; none, and no question to ratings, in version 1.
    fn color(self) -> Option<&'static str> {
        match self {
            Version::V1 => None,
            Version::V2 => Some("black"),
            Version::V3 => Some("red"),
        }
    }
}

/// Serves until told to stop.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let ratings = Arc::new(Upstream::new(&args.ratings_host, args.ratings_port, RATINGS_TIME_MAX));
    let version = args.version;
    serve::http(listen(args.port)?, stop, move |request| route(request, version, ratings.clone())).await;
    Ok(())
}

async fn route(request: Request<Incoming>, version: Version, ratings: Arc<Upstream>) -> Response<Body> {
    let path = request.uri().path();
    if path == "/health" {
        return reply::json(StatusCode::OK, &json!({"status": "Reviews is healthy"}));
    }
    let Some(id) = path.strip_prefix("/reviews/") else { return reply::not_found() };
    if request.method() != Method::GET {
        return reply::method_not_allowed();
    }
    let Some(id) = book_id(id) else {
        return reply::json(StatusCode::BAD_REQUEST, &json!({"error": "please give a book's number"}));
    };
    let stars = match version.color() {
        None => None,
        Some(color) => Some((color, stars_of(id, &ratings, passed_on(request.headers())).await)),
    };
    let mut answer = reviews(id, stars);
    answer["version"] = version.name().into();
    answer["podname"] = reply::hostname().into();
    answer["clustername"] = std::env::var("CLUSTER_NAME").unwrap_or_else(|_| "null".to_owned()).into();
    reply::json(StatusCode::OK, &answer)
}

/// The ratings of a book, by reviewer; none when the service does not give them.
async fn stars_of(id: u64, ratings: &Upstream, headers: HeaderMap) -> Option<Value> {
    match ratings.get(&format!("/ratings/{id}"), headers).await {
        Ok(answer) => serde_json::from_slice::<Value>(&answer.body).ok().map(|mut whole| whole["ratings"].take()),
        Err(why) => {
            eprintln!("reviews: no ratings: {why}");
            None
        }
    }
}

/// The answer's reviews, with stars of a colour where this version shows them.
pub(super) fn reviews(id: u64, stars: Option<(&str, Option<Value>)>) -> Value {
    let one = |(reviewer, text): (&str, &str)| {
        let mut review = json!({"reviewer": reviewer, "text": text});
        match &stars {
            None => {}
            Some((color, Some(by_reviewer))) => {
                review["rating"] = match by_reviewer[reviewer].as_u64() {
                    Some(stars) => json!({"stars": stars, "color": color}),
                    None => json!({"error": "There is no rating by this reviewer"}),
                };
            }
            Some((_, None)) => review["rating"] = json!({"error": "Ratings service is currently unavailable"}),
        }
        review
    };
    json!({"id": id.to_string(), "reviews": REVIEWS.map(one)})
}
