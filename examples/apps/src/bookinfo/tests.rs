//! Bookinfo's pure parts: what is passed on, who is logged in, what the page and the reviews say.

use http::HeaderMap;
use serde_json::json;

use super::{login, page, passing, ratings, reviews};

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[test]
fn trace_headers_are_passed_on_and_others_are_not() {
    let got = headers(&[("x-request-id", "7"), ("traceparent", "00-a-b-01"), ("host", "shop"), ("accept", "*/*")]);
    let passed = passing::passed_on(&got);
    assert_eq!(passed, headers(&[("x-request-id", "7"), ("traceparent", "00-a-b-01")]));
}

#[test]
fn a_user_is_a_cookie_with_a_plain_name() {
    let user = |cookie| login::user(&headers(&[("cookie", cookie)])).map(str::to_owned);
    assert_eq!(user("a=b; user=jason"), Some("jason".to_owned()));
    assert_eq!(user("user="), None);
    assert_eq!(user("user=a b"), None);
    assert_eq!(user("username=jason"), None);
    assert_eq!(login::user_in_form(b"username=jason&passwd=x"), Some("jason".to_owned()));
    assert_eq!(login::user_in_form(b"username=%0d%0aevil&passwd="), None);
}

#[test]
fn versions_differ_by_their_stars() {
    let stars = json!({"Reviewer1": 5, "Reviewer2": 4});
    assert!(reviews::reviews(0, None)["reviews"][0]["rating"].is_null());
    let red = reviews::reviews(0, Some(("red", Some(stars))));
    assert_eq!(red["reviews"][1]["rating"], json!({"stars": 4, "color": "red"}));
    let without = reviews::reviews(0, Some(("red", None)));
    assert_eq!(without["reviews"][0]["rating"]["error"], "Ratings service is currently unavailable");
}

#[test]
fn the_page_shows_stars_in_their_colour_and_who_answered() {
    let mut answer = reviews::reviews(0, Some(("red", Some(json!({"Reviewer1": 5, "Reviewer2": 4})))));
    answer["version"] = "v3".into();
    answer["podname"] = "reviews-v3-abc".into();
    let html = page::product(Some("jason"), None, Some(&answer));
    assert!(html.contains("class=\"stars red\" title=\"4 of 5 stars\">★★★★<i>★</i>"), "{html}");
    assert!(html.contains("<code>reviews-v3-abc</code>") && html.contains("data-reviews-version=\"v3\""), "{html}");
    assert!(html.contains("Sorry, product details are currently unavailable"), "{html}");
}

#[test]
fn what_other_services_say_is_escaped() {
    let details = json!({"author": "<script>alert(1)</script>"});
    let html = page::product(None, Some(&details), None);
    assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"), "{html}");
}

#[test]
fn ratings_take_only_stars_in_range() {
    let ratings = ratings::Ratings::default();
    assert!(ratings.set(0, b"{\"Reviewer1\": 6}").is_err());
    assert!(ratings.set(0, b"no json").is_err());
    assert_eq!(ratings.set(0, b"{\"Reviewer1\": 2}").unwrap()["Reviewer1"], 2);
}
