//! What people see in a browser: plain pages without scripts, that load nothing.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

use super::{Notice, html};

const STYLE: &str = "body{margin:0;min-height:100vh;display:grid;place-items:center;\
    font:1.1rem/1.5 system-ui,sans-serif;background:#f6f6f4;color:#1d1d1b}\
    main{max-width:34rem;padding:2rem}h1{font-size:1.5rem}\
    input{font:inherit;width:100%;box-sizing:border-box;margin:.5rem 0;padding:.5rem}\
    button{font:inherit;padding:.5rem 1rem}\
    @media(prefers-color-scheme:dark){body{background:#1b1b1d;color:#ececea}}";

/// Says that nobody is served, or readers only. The browser asks again when it was told to.
pub(super) fn of(notice: &Notice) -> HttpResponse {
    let (seconds, message) = (notice.retry_after_s.max(1), escaped(&notice.message));
    let head = format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">");
    let page = page("Under maintenance", &head, &format!("<p>{message}</p>"));
    html(StatusCode::SERVICE_UNAVAILABLE, page)
}

/// Asks for a word that lets its bearer in. The form is sent to where the page came from, whatever a balancer calls it.
pub(super) fn form() -> HttpResponse {
    let body = "<p>Whoever has a bypass word may come in while the service is under maintenance.</p>\
                <form method=\"post\"><label>Bypass word \
                <input name=\"word\" type=\"password\" autocomplete=\"off\" required></label>\
                <button>Come in</button></form>";
    html(StatusCode::OK, page("Maintenance bypass", "", body))
}

fn page(title: &str, head: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\">{head}<title>{title}</title>\
         <style>{STYLE}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    )
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}
