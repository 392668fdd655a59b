//! The HTML of the web page. Everything that came from another service is escaped.

use serde_json::Value;

/// The book's title.
pub(super) const TITLE: &str = "The Comedy of Errors";

/// What the book is about.
pub(super) const DESCRIPTION: &str = "Two brothers who have never met arrive in the same town on the same day, each \
     with the same face and the same name as the other; so do their servants. Nothing that anybody says to anybody \
     reaches the right person: a play about a network without identities.";

/// `/static/bookinfo.css`.
pub(super) const STYLE: &str = include_str!("page.css");

/// `/static/bookinfo.svg`.
pub(super) const ICON: &str = include_str!("page.svg");

/// The most stars that are drawn.
const STARS_MAX: u64 = 5;

/// The facts that are shown, with their names in the details service's answer.
const FACTS: [(&str, &str); 7] = [
    ("Author", "author"),
    ("Year", "year"),
    ("Type", "type"),
    ("Pages", "pages"),
    ("Publisher", "publisher"),
    ("Language", "language"),
    ("ISBN-10", "ISBN-10"),
];

/// What is shown in the place of something that did not come.
pub(super) fn sorry(what: &str) -> String {
    format!("Sorry, {what} are currently unavailable for this book.")
}

/// The page at `/`.
pub(super) fn landing(details: &str, reviews: &str) -> String {
    let body = format!(
        "<main><section class=\"card\"><h2>A page made by four services</h2>\
         <p>This is <b>productpage</b>. It asks <b>details</b> at <code>{}</code> and <b>reviews</b> at \
         <code>{}</code>; versions 2 and 3 of reviews ask <b>ratings</b> for stars.</p>\
         <p><a class=\"button\" href=\"/productpage\">Show the book</a></p></section></main>",
        escape(details),
        escape(reviews),
    );
    document(None, &body)
}

/// The page at `/productpage`; what did not come is `None`.
pub(super) fn product(user: Option<&str>, details: Option<&Value>, reviews: Option<&Value>) -> String {
    let body = format!(
        "<section class=\"hero\"><h1>{TITLE}</h1><p>{DESCRIPTION}</p></section>\
         <main><section class=\"card\" id=\"details\"><h2>Book details</h2>{}</section>\
         <section class=\"card\" id=\"reviews\"><h2>Book reviews</h2>{}</section></main>",
        details.map_or_else(|| error(&sorry("product details")), facts),
        reviews.map_or_else(|| error(&sorry("product reviews")), opinions),
    );
    document(user, &body)
}

fn document(user: Option<&str>, body: &str) -> String {
    let account = match user {
        Some(user) => format!("<span>{} · <a href=\"/logout\">sign out</a></span>", escape(user)),
        None => "<form method=\"post\" action=\"/login\">\
                 <input name=\"username\" placeholder=\"user, e.g. jason\" aria-label=\"user\" required \
                 maxlength=\"64\" pattern=\"[A-Za-z0-9._\\-]+\"><button>Sign in</button></form>"
            .to_owned(),
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Simple Bookstore App</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <link rel=\"stylesheet\" href=\"/static/bookinfo.css\">\
         <link rel=\"icon\" href=\"/static/bookinfo.svg\"></head><body>\
         <header><a href=\"/\">BookInfo</a>{account}</header>{body}</body></html>\n"
    )
}

fn facts(details: &Value) -> String {
    let row = |(label, key): (&str, &str)| format!("<dt>{label}</dt><dd>{}</dd>", escape(&plain(&details[key])));
    format!("<dl>{}</dl>", FACTS.map(row).concat())
}

fn opinions(answer: &Value) -> String {
    let empty = Vec::new();
    let reviews = answer["reviews"].as_array().unwrap_or(&empty);
    let one = |review: &Value| {
        format!(
            "<blockquote><p>{}</p><footer>{} {}</footer></blockquote>",
            escape(&plain(&review["text"])),
            escape(&plain(&review["reviewer"])),
            rating(&review["rating"]),
        )
    };
    let version = escape(&plain(&answer["version"]));
    format!(
        "{}<p class=\"by\" data-reviews-version=\"{version}\">Reviews served by <code>{}</code>{}</p>",
        reviews.iter().map(one).collect::<String>(),
        escape(&plain(&answer["podname"])),
        if version.is_empty() { String::new() } else { format!(" (version <b>{version}</b>)") },
    )
}

fn rating(rating: &Value) -> String {
    if let Some(words) = rating["error"].as_str() {
        return format!("<span class=\"missing\">{}</span>", escape(words));
    }
    let Some(stars) = rating["stars"].as_u64() else { return String::new() };
    let (full, whole) = (stars.min(STARS_MAX) as usize, STARS_MAX as usize);
    let color = if rating["color"] == "red" { "red" } else { "black" };
    format!(
        "<span class=\"stars {color}\" title=\"{full} of {whole} stars\">{}<i>{}</i></span>",
        "★".repeat(full),
        "★".repeat(whole - full),
    )
}

fn error(words: &str) -> String {
    format!("<p class=\"error\"><b>Error fetching this part.</b><br>{words}</p>")
}

/// A JSON value as people write it; nothing for what is absent.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
