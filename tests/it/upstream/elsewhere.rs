//! Redirects to other origins: only to hosts that the configuration names, and with nothing that is secret.

use headpond::domain::failure::FailureKind;
use headpond::domain::validators::Validators;
use headpond::upstream::{FetchRequest, Hop};
use http::StatusCode;
use wiremock::matchers::{any, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::configured::Configured;
use super::gates::TestGate;
use super::{body, failure, fetcher, kind, mock_server, url};
use crate::support::raw_server::tls_server;

async fn moved(server: &MockServer, from: &str, to: &str) {
    let answer = ResponseTemplate::new(302).insert_header("location", to);
    Mock::given(path(from)).respond_with(answer).expect(1).mount(server).await;
}

fn host(server: &MockServer) -> String {
    server.address().to_string()
}

#[tokio::test]
async fn a_host_that_is_named_is_shown_no_credentials_also_not_on_the_way_back() {
    for auth in ["{ bearer = 's3cret' }", "{ query = { name = 'api_key', value = 's3cret' } }"] {
        let (home, cdn) = (mock_server().await, mock_server().await);
        moved(&home, "/k", &format!("{}/file?api_key=s3cret&x=1", cdn.uri())).await;
        moved(&cdn, "/file", &format!("{}/back", home.uri())).await;
        let content = ResponseTemplate::new(200).set_body_string("x");
        Mock::given(path("/back")).respond_with(content).expect(1).mount(&home).await;
        let settings = format!(
            "auth = {auth}\nheaders = {{ x-tenant = '5', cookie = 's3cret' }}\naccept = 'text/plain'\n\
             allow_redirect_hosts = ['{}', '{}']",
            host(&cdn),
            host(&home)
        );
        let upstream = Configured::with(&home.uri(), &settings);
        let validators = Validators { etag: Some("\"v1\"".into()), last_modified: None };
        let gate = TestGate::default();
        let exchange = upstream.exchange(&url(&home, "/k"), Some(&validators), &gate).await.unwrap();
        assert_eq!((body(&exchange.observation), gate.hops()), (&b"x"[..], 2), "each hop takes a token");
        let hop =
            |to: &MockServer, path: &str| Hop { status: StatusCode::FOUND, origin: Some(to.uri()), path: path.into() };
        assert_eq!(exchange.redirects, [hop(&cdn, "/file"), hop(&home, "/back")]);

        let at_home = home.received_requests().await.unwrap();
        assert!(format!("{:?}", at_home[0]).contains("s3cret"), "it was shown at first: {:?}", at_home[0]);
        for request in [&at_home[1], &cdn.received_requests().await.unwrap()[0]] {
            let mut names: Vec<_> = request.headers.keys().map(http::HeaderName::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, ["accept", "accept-encoding", "host", "if-none-match", "user-agent"], "{auth}");
            assert_eq!(request.headers["accept"], "text/plain");
            if auth.contains("query") {
                assert!(!request.url.as_str().contains("s3cret"), "{}", request.url);
            }
        }
    }
}

#[tokio::test]
async fn a_host_that_is_not_named_is_not_asked() {
    let (home, other) = (mock_server().await, mock_server().await);
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).expect(0).mount(&other).await;
    moved(&home, "/k", &format!("{}/file", other.uri())).await;
    // The same host at another port is another origin.
    let upstream = Configured::with(&home.uri(), "allow_redirect_hosts = ['127.0.0.1:9', '127.0.0.1', 'cdn.example']");
    let observation = upstream.ask(&url(&home, "/k")).await;
    assert_eq!((kind(&observation), failure(&observation).status), (FailureKind::Redirect, Some(302)));
    assert!(failure(&observation).detail.contains("allow_redirect_hosts"), "{observation:?}");
}

#[tokio::test]
async fn nothing_leads_from_https_to_http_nor_out_of_http() {
    for to in ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://169.254.169.254/latest/meta-data/"] {
        let home = mock_server().await;
        moved(&home, "/k", to).await;
        let observation = Configured::with(&home.uri(), "").ask(&url(&home, "/k")).await;
        assert_eq!(kind(&observation), FailureKind::Redirect, "{to}");
    }
    let answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n";
    let origin = format!("https://localhost:{}", tls_server(answer).port());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), crate::support::raw_server::CERTIFICATE).unwrap();
    let settings =
        format!("ca_certificates = '{}'\nallow_redirect_hosts = ['127.0.0.1:9']", file.path().to_str().unwrap());
    let observation = Configured::with(&origin, &settings).ask(&format!("{origin}/k").parse().unwrap()).await;
    assert!(failure(&observation).detail.contains("leads from https to http"), "{observation:?}");
}

#[tokio::test]
async fn a_body_is_not_sent_elsewhere_but_what_a_303_names_is_read_there() {
    for (status, reads) in [(307, false), (302, false), (303, true)] {
        let (home, cdn) = (mock_server().await, mock_server().await);
        let answer = ResponseTemplate::new(status).insert_header("location", format!("{}/file", cdn.uri()));
        Mock::given(path("/k")).respond_with(answer).expect(1).mount(&home).await;
        let content = ResponseTemplate::new(200).set_body_string("x");
        Mock::given(path("/file")).respond_with(content).expect(u64::from(reads)).mount(&cdn).await;
        let toml = format!(
            "[sources.s]\nurl = '{}/{{key}}'\nkeys = ['k']\nrefresh_every = '1h'\nbody = '{{\"s3cret\":1}}'\n\
             allow_redirect_hosts = ['{}']",
            home.uri(),
            host(&cdn)
        );
        let config = Configured::reading(&toml).config;
        let source = &config.sources[0];
        let ask = source.ask(&source.keys[0].0, &source.keys[0].1).unwrap();
        let request =
            FetchRequest { url: &ask.url, body: ask.body.as_ref(), settings: &source.request, validators: None };
        let observation = fetcher().fetch(&request, &TestGate::default()).await.unwrap();
        if reads {
            assert_eq!(body(&observation), b"x");
            assert_eq!(cdn.received_requests().await.unwrap()[0].method, "GET");
        } else {
            assert!(failure(&observation).detail.contains("which is not sent there"), "{observation:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_stands_for_this_machine_is_blocked_where_private_networks_are() {
    let server = mock_server().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).expect(0).mount(&server).await;
    let origin = format!("http://localhost:{}", server.address().port());
    let upstream = Configured::with(&origin, "block_private_networks = true");
    let observation = upstream.ask(&format!("{origin}/k").parse().unwrap()).await;
    assert_eq!(kind(&observation), FailureKind::Blocked, "{observation:?}");
    assert!(!failure(&observation).is_outage());
    let literal = format!("http://127.0.0.1:{}/k", server.address().port()).parse().unwrap();
    assert_eq!(kind(&upstream.ask(&literal).await), FailureKind::Blocked);
}
