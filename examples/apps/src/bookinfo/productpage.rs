//! The web page, and the same content as JSON: routes, and asking details and reviews.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, SET_COOKIE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::upstream::Upstream;
use super::{PORT, book_id, login, page, passing};
use crate::net::{listen::listen, serve};
use crate::reply::{self, Body};

/// How long details and reviews may take.
const UPSTREAM_TIME_MAX: Duration = Duration::from_secs(3);
/// Bytes of the login form.
const FORM_MAX: usize = 4096;

/// Options of `productpage`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port to listen on
    #[arg(long, default_value_t = PORT)]
    port: u16,
    /// Host that serves details
    #[arg(long, env = "DETAILS_HOSTNAME", default_value = "details")]
    details_host: String,
    /// Port of details
    #[arg(long, env = "DETAILS_SERVICE_PORT", default_value_t = PORT)]
    details_port: u16,
    /// Host that serves reviews
    #[arg(long, env = "REVIEWS_HOSTNAME", default_value = "reviews")]
    reviews_host: String,
    /// Port of reviews
    #[arg(long, env = "REVIEWS_SERVICE_PORT", default_value_t = PORT)]
    reviews_port: u16,
}

/// What the handlers share.
struct Shop {
    details: Upstream,
    reviews: Upstream,
    /// Answers by hundred of their status: `1xx` at 0, `5xx` at 4.
    answers: [AtomicU64; 5],
}

/// Serves until told to stop.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let shop = Arc::new(Shop {
        details: Upstream::new(&args.details_host, args.details_port, UPSTREAM_TIME_MAX),
        reviews: Upstream::new(&args.reviews_host, args.reviews_port, UPSTREAM_TIME_MAX),
        answers: Default::default(),
    });
    serve::http(listen(args.port)?, stop, move |request| {
        let shop = shop.clone();
        async move {
            let answer = route(request, &shop).await;
            let hundred = usize::from(answer.status().as_u16() / 100);
            if let Some(count) = shop.answers.get(hundred.wrapping_sub(1)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            answer
        }
    })
    .await;
    Ok(())
}

async fn route(request: Request<Incoming>, shop: &Shop) -> Response<Body> {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::POST, "/login") => return log_in(request).await,
        (&Method::GET | &Method::HEAD, _) => {}
        _ => return reply::method_not_allowed(),
    }
    match path {
        "/" | "/index.html" => html(page::landing(shop.details.base(), shop.reviews.base())),
        "/productpage" => product_page(request.headers(), shop).await,
        "/login" => redirect("/productpage", None),
        "/logout" => redirect("/productpage", Some(login::clear())),
        "/health" => reply::text(StatusCode::OK, "Product page is healthy\n"),
        "/metrics" => metrics(shop),
        "/api/v1/products" => reply::json(StatusCode::OK, &json!([product()])),
        _ => match path.strip_prefix("/static/") {
            Some(name) => static_file(name),
            None => product_api(path, request.headers(), shop).await,
        },
    }
}

/// The one book of the shop.
fn product() -> Value {
    json!({
        "id": 0,
        "title": page::TITLE,
        "descriptionHtml": page::DESCRIPTION,
    })
}

async fn product_page(headers: &HeaderMap, shop: &Shop) -> Response<Body> {
    let outgoing = outgoing(headers);
    let (details, reviews) = tokio::join!(
        ask(&shop.details, "/details/0", outgoing.clone()),
        ask(&shop.reviews, "/reviews/0", outgoing.clone()),
    );
    html(page::product(login::user(headers), details.as_ref(), reviews.as_ref()))
}

/// `/api/v1/products/{id}` is the book's details, with `/reviews` behind it the reviews as that service gave them; an
/// upstream that does not answer is a 503 with words for people (the reason is in the log).
async fn product_api(path: &str, headers: &HeaderMap, shop: &Shop) -> Response<Body> {
    let Some(rest) = path.strip_prefix("/api/v1/products/") else { return reply::not_found() };
    let (id, part) = rest.split_once('/').unwrap_or((rest, ""));
    let Some(id) = book_id(id) else { return reply::not_found() };
    let (upstream, path, what) = match part {
        "" => (&shop.details, format!("/details/{id}"), "product details"),
        "reviews" => (&shop.reviews, format!("/reviews/{id}"), "product reviews"),
        _ => return reply::not_found(),
    };
    match ask(upstream, &path, outgoing(headers)).await {
        Some(value) => reply::json(StatusCode::OK, &value),
        None => reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": page::sorry(what)})),
    }
}

/// The headers of what we ask: what is passed on, and the user of the cookie over one that the request named.
fn outgoing(headers: &HeaderMap) -> HeaderMap {
    let mut outgoing = passing::passed_on(headers);
    if let Some(user) = login::user(headers) {
        passing::set_end_user(&mut outgoing, user);
    }
    outgoing
}

async fn ask(upstream: &Upstream, path: &str, headers: HeaderMap) -> Option<Value> {
    let user = passing::end_user(&headers).unwrap_or("-").to_owned();
    let answer = upstream.get(path, headers).await.and_then(|answer| {
        serde_json::from_slice(&answer.body).map_err(|error| format!("{}{path}: no JSON: {error}", upstream.base()))
    });
    answer.inspect_err(|why| eprintln!("productpage: {why} (user {user:?})")).ok()
}

async fn log_in(request: Request<Incoming>) -> Response<Body> {
    let form = Limited::new(request.into_body(), FORM_MAX).collect().await;
    let name = form.ok().and_then(|form| login::user_in_form(&form.to_bytes()));
    match name {
        Some(name) => redirect("/productpage", Some(login::set(&name))),
        None => reply::text(StatusCode::BAD_REQUEST, "a user's name has 1 to 64 letters, digits, '.', '_' or '-'\n"),
    }
}

fn redirect(to: &'static str, cookie: Option<String>) -> Response<Body> {
    let mut response = reply::text(StatusCode::SEE_OTHER, "");
    response.headers_mut().insert(LOCATION, HeaderValue::from_static(to));
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

fn html(text: String) -> Response<Body> {
    let mut response = reply::answer(StatusCode::OK, "text/html; charset=utf-8", text);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn static_file(name: &str) -> Response<Body> {
    let (media_type, content) = match name {
        "bookinfo.css" => ("text/css; charset=utf-8", page::STYLE),
        "bookinfo.svg" => ("image/svg+xml", page::ICON),
        _ => return reply::not_found(),
    };
    let mut response = reply::answer(StatusCode::OK, media_type, content);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    response
}

fn metrics(shop: &Shop) -> Response<Body> {
    let mut text = String::from(
        "# HELP bookinfo_productpage_answers_total Answers by class of status.\n\
         # TYPE bookinfo_productpage_answers_total counter\n",
    );
    for (hundred, count) in (1..).zip(&shop.answers) {
        let count = count.load(Ordering::Relaxed);
        text.push_str(&format!("bookinfo_productpage_answers_total{{class=\"{hundred}xx\"}} {count}\n"));
    }
    let mut response = reply::text(StatusCode::OK, text);
    let exposition = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(CONTENT_TYPE, exposition);
    response
}
