use actix_web::body::to_bytes;
use actix_web::test::TestRequest;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::secret::Secret;

struct Bench {
    maintenance: Maintenance,
    clock: Arc<ManualClock>,
}

fn with_secrets(secrets: &[&str]) -> Bench {
    let mut config = Config::for_test();
    config.session.secret = secrets.iter().map(|one| Secret::new((*one).to_owned())).collect();
    let clock = Arc::new(ManualClock::new());
    let maintenance = Maintenance::new(&config, Arc::clone(&clock) as SharedClock);
    Bench { maintenance, clock }
}

fn in_mode(mode: Mode) -> Bench {
    let bench = with_secrets(&["a"]);
    let notice = Notice { mode, message: "Back at <noon> & later".to_owned(), retry_after_s: 90 };
    bench.maintenance.apply(&notice.to_text());
    bench
}

fn turned_away(bench: &Bench, request: TestRequest) -> Option<HttpResponse> {
    let request = request.to_srv_request();
    bench.maintenance.is_on().then(|| bench.maintenance.turn_away(&request)).flatten()
}

#[test]
fn o3_each_mode_serves_whom_it_should() {
    let all = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PURGE"];
    for (mode, served) in [(Mode::Off, 8), (Mode::ReadOnly, 3), (Mode::Full, 0)] {
        let bench = in_mode(mode);
        assert_eq!(bench.maintenance.mode(), mode);
        for (number, method) in all.into_iter().enumerate() {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = TestRequest::with_uri("/").method(method.clone());
            let answer = turned_away(&bench, request);
            assert_eq!(answer.is_none(), number < served, "{mode:?} {method}");
        }
    }
}

#[actix_web::test]
async fn o3_a_program_gets_a_problem_and_a_browser_a_page() {
    let bench = in_mode(Mode::Full);
    let answer = turned_away(&bench, TestRequest::get()).unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers().get(RETRY_AFTER).unwrap(), "90");
    let body = to_bytes(answer.into_body()).await.unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], "maintenance");
    assert_eq!(problem["detail"], "Back at <noon> & later");
    assert_eq!(problem["mode"], "full");
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let answer = turned_away(&bench, TestRequest::get().insert_header((ACCEPT, browser))).unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers().get(RETRY_AFTER).unwrap(), "90");
    assert_eq!(answer.headers().get(VARY).unwrap(), "Accept");
    let policy = answer.headers().get(CONTENT_SECURITY_POLICY).unwrap().to_str().unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    let page = to_bytes(answer.into_body()).await.unwrap();
    let page = String::from_utf8(page.to_vec()).unwrap();
    assert!(page.contains("Back at &lt;noon&gt; &amp; later"), "{page}");
    assert!(page.starts_with("<!doctype html>") && !page.contains("<script"), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://"), "it loads nothing: {page}");
}

#[test]
fn o3_only_who_names_html_gets_a_page() {
    for (accept, page) in [
        ("text/html", true),
        ("application/json, text/HTML;q=0.1", true),
        ("text/html;q=0", false),
        ("text/html; q=0.0, */*", false),
        ("*/*", false),
        ("text/*", false),
        ("application/json", false),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        assert_eq!(wants_page(&headers), page, "{accept}");
    }
    assert!(!wants_page(&HeaderMap::new()));
}

#[test]
fn o3_a_bypass_word_lets_in_by_header_and_by_cookie_until_it_ends() {
    let bench = in_mode(Mode::Full);
    let (word, until_ms) = bench.maintenance.make_bypass(Duration::from_secs(60));
    assert_eq!(until_ms, bench.clock.wall_ms() + 60_000);
    let by_header = || TestRequest::post().insert_header((BYPASS_HEADER, word.as_str()));
    let by_cookie = || {
        let cookies = format!("other=1; us_bypass={word}");
        TestRequest::post().insert_header(("cookie", cookies))
    };
    assert!(turned_away(&bench, by_header()).is_none());
    assert!(turned_away(&bench, by_cookie()).is_none());
    bench.clock.advance(Duration::from_secs(60));
    assert!(turned_away(&bench, by_header()).is_some());
    assert!(turned_away(&bench, by_cookie()).is_some());
}

#[test]
fn o3_a_bypass_word_that_was_changed_or_invented_is_worth_nothing() {
    let bench = in_mode(Mode::Full);
    let (word, _) = bench.maintenance.make_bypass(Duration::from_secs(60));
    for position in 0..word.len() {
        let mut changed = word.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(bench.maintenance.open_bypass(&changed).is_none(), "{position}");
    }
    for nonsense in ["", ".", "..", "1", "9999999999999.x.", "9999999999999..AAAA", "ä.ö.ü"] {
        assert!(bench.maintenance.open_bypass(nonsense).is_none(), "{nonsense}");
    }
    assert!(bench.maintenance.open_bypass(&word).is_some());
}

#[test]
fn o3_all_nodes_with_the_same_secret_know_each_others_words() {
    let minute = Duration::from_secs(60);
    let (one, other) = (with_secrets(&["new", "old"]), with_secrets(&["old"]));
    assert!(one.maintenance.is_bypass_shared());
    let (word, _) = one.maintenance.make_bypass(minute);
    assert!(with_secrets(&["x", "new"]).maintenance.open_bypass(&word).is_some());
    assert!(other.maintenance.open_bypass(&word).is_none(), "it does not know the new one");
    let (word, _) = other.maintenance.make_bypass(minute);
    assert!(one.maintenance.open_bypass(&word).is_some(), "the old one still counts");
    let (alone, stranger) = (with_secrets(&[]), with_secrets(&[]));
    assert!(!alone.maintenance.is_bypass_shared());
    let (word, _) = alone.maintenance.make_bypass(minute);
    assert!(alone.maintenance.open_bypass(&word).is_some());
    assert!(stranger.maintenance.open_bypass(&word).is_none());
}

#[actix_web::test]
async fn o3_a_browser_turns_a_word_into_a_cookie() {
    use actix_web::App;
    use actix_web::test::{call_service, init_service};

    let bench = in_mode(Mode::Full);
    assert!(turned_away(&bench, TestRequest::post().uri(BYPASS_PATH)).is_none());
    let app = init_service(App::new().configure(|app| bench.maintenance.configure(app))).await;
    let form = call_service(&app, TestRequest::get().uri(BYPASS_PATH).to_request()).await;
    assert_eq!(form.status(), 200);
    let (word, _) = bench.maintenance.make_bypass(Duration::from_secs(60));
    let send =
        |word: &str| TestRequest::post().uri(BYPASS_PATH).set_form([("word", word)]).to_request();
    let taken = call_service(&app, send(&format!(" {word} "))).await;
    assert_eq!(taken.status(), 303);
    let cookie = taken.headers().get("set-cookie").unwrap().to_str().unwrap();
    assert_eq!(cookie, format!("us_bypass={word}; HttpOnly; SameSite=Lax; Path=/; Max-Age=60"));
    assert_eq!(call_service(&app, send("1.2.3")).await.status(), 403);
}

#[test]
fn the_value_of_the_setting_is_read_as_it_was_written() {
    let notice = Notice { mode: Mode::ReadOnly, message: "\"é\"".to_owned(), retry_after_s: 5 };
    assert_eq!(Notice::parse(&notice.to_text()), Ok(notice));
    assert_eq!(Notice::parse("{\"mode\":\"off\"}").unwrap().mode, Mode::Off);
    for wrong in ["", "{}", "{\"mode\":\"maybe\"}", "{\"mode\":\"full\",\"more\":1}"] {
        assert!(Notice::parse(wrong).is_err(), "{wrong}");
    }
    for mode in [Mode::Off, Mode::ReadOnly, Mode::Full] {
        assert_eq!(Mode::named(mode.as_str()), Some(mode));
    }
}
