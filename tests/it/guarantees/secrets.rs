//! Secrets stay secret: canaries in every place where a configuration takes a secret, and a look at everything that comes
//! out.

use std::panic::{AssertUnwindSafe, resume_unwind};

use base64::Engine;
use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::program::{Headpond, eventually, get};
use crate::support::store::Database;

/// What all canaries have in common: this must never be seen.
const CANARY: &str = "canary-";
const TOKEN: &str = "canary-token-7f3a";
const KEY: &str = "canary-key-91bc";
const ADMIN: &str = "canary-admin-c04e";
const PASSWORD: &str = "canary-password-55de";
const BEARER: &str = "canary-bearer-0a11";
const PARAMETER: &str = "canary-parameter-62c9";
const PROXY: &str = "canary-proxy-c0de";
const CLIENT: &str = "canary-client-ab1e";
const BASIC: &str = "canary-basic-3e77";
const FIELD: &str = "canary-field-8b02";
const BODY: &str = "canary-body-f1e1";
/// What the token endpoint gives.
const BOUGHT: &str = "canary-bought-d00d";
const FURTHER: &str = "canary-further-ba5e";
/// What a stranger tries.
const GUESS: &str = "canary-guess-0bad";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_printed_answered_or_stored_on_sqlite() {
    Database::sqlite()
        .check(async |database: &Database| {
            everything_with(&database.url()).await;
            let directory = database.path().parent().unwrap().to_owned();
            let mut seen = 0;
            for file in std::fs::read_dir(directory).unwrap() {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
                seen += usize::from(bytes.windows(4).any(|window| window == b"good"));
            }
            assert_eq!(seen, 1, "the content that was stored, in one file");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_printed_answered_or_stored_on_postgres() {
    let database = Database::on_test_server().await;
    let Database::Postgres { server, name } = &database else { unreachable!("it is one") };
    let (mut server, role) = (PgConnection::connect(server).await.unwrap(), name.replace("test", "role"));
    let own = format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; ALTER DATABASE {name} OWNER TO {role}");
    sqlx::raw_sql(AssertSqlSafe(own)).execute(&mut server).await.unwrap();
    let checked = AssertUnwindSafe(database.check(async |database: &Database| {
        let mut url: url::Url = database.url().parse().unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        everything_with(url.as_str()).await;
        assert_no_column_has_it(database).await;
        url.set_port(Some(9)).unwrap();
        let without = Headpond::with_config(&config("http://127.0.0.1:9")).with_variable("DATABASE", url.as_str());
        assert_silent(&with_secrets(without).run(&["--log", "trace", "refresh"]).await);
    }))
    .catch_unwind()
    .await;
    let drop = format!("DROP ROLE {role}");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut server).await.unwrap();
    if let Err(panic) = checked {
        resume_unwind(panic);
    }
}

/// Runs all commands against an origin that works and one that fails.
async fn everything_with(database_url: &str) {
    let upstream = upstream().await;
    let headpond =
        with_secrets(Headpond::with_config(&config(&upstream.uri()))).with_variable("DATABASE", database_url);
    for command in [
        &["check"][..],
        &["check", "--connect"],
        &["migrate"],
        &["refresh", "--all"],
        &["refresh", "--all", "--force", "--json"],
        &["check", "--connect"],
        &["status"],
        &["status", "--json"],
        &["try", "users", "good"],
        &["try", "users", "bad"],
        &["try", "users", "elsewhere"],
        &["try", "users", "moved"],
        &["try", "down", "k"],
        &["try", "shown", "good"],
        &["try", "asked", "good"],
        &["try", "asked", "moved"],
        &["try", "asked", "elsewhere"],
        &["try", "bought", "good"],
        &["try", "unsold", "good"],
        &["try", "proxied", "good"],
        &["try", "lost", "good"],
        &["try", "basic", "good"],
        &["try", "named", "good"],
        &["try", "posted", "good"],
        &["get", "users", "good"],
        &["get", "users", "good", "--meta"],
        &["get", "users", "bad", "--meta"],
        &["get", "users", "elsewhere", "--meta"],
        &["get", "down", "k", "--meta"],
        &["get", "asked", "moved", "--meta"],
        &["get", "unsold", "good", "--meta"],
        &["get", "lost", "good", "--meta"],
        &["get", "users", "bad", "--refused"],
        // Mistakes, for which an error may quote too much.
        &["get", "users", "unknown"],
        &["refresh", "unknown"],
        &["check", "--config", "broken.toml"],
    ] {
        let args = [&["--log", "trace"], command].concat();
        std::fs::write(headpond.path("broken.toml"), broken(&upstream.uri())).unwrap();
        let printed = headpond.run(&args).await;
        assert_silent(&printed);
        if command[0] == "try" {
            assert!(printed.stderr.contains("TRACE hyper_util::"), "all crates say all that they can: {printed:?}");
        }
    }

    let serving = headpond.serve_with(&["--log", "trace"]).await;
    eventually("ready", std::time::Duration::from_secs(30), async || {
        get(&serving.url("/readyz")).await.ok()?.status().is_success().then_some(())
    })
    .await;
    let sources =
        ["shown", "asked", "bought", "unsold", "proxied", "lost"].map(|source| format!("v1/{source}/good/meta"));
    let others =
        ["users/good", "users/good/meta", "users/bad/meta", "users/elsewhere/meta", "down/k/meta", "-/changes"]
            .map(|path| format!("v1/{path}"));
    let about_all = ["metrics", "healthz", "readyz", "v1/users", "v1/asked", "v1/-/status", "v1/-/sources"];
    for path in sources.into_iter().chain(others).chain(about_all.map(str::to_owned)) {
        let answer = get(&serving.url(&format!("/{path}"))).await.unwrap();
        assert_silent(&(answer.headers().clone(), answer.text().await.unwrap()));
    }
    for (token, expected) in [(None, 401), (Some(GUESS), 401), (Some(ADMIN), 200)] {
        for path in ["/v1/-/reload", "/v1/bought/good/refresh"] {
            let (status, said) = serving.post(path, token).await;
            assert!(status == expected || (expected, status) == (200, 202), "{status}: {said}");
            assert_silent(&said);
        }
    }
    headpond.configure(&broken(&upstream.uri()));
    let (status, said) = serving.post("/v1/-/reload", Some(ADMIN)).await;
    assert_eq!(status, 422, "{said}");
    assert_silent(&said);
    serving.signal("TERM");
    assert_silent(&serving.ended().await);

    // Else nothing would have been shown.
    let requests = upstream.received_requests().await.unwrap();
    let without = requests.iter().find(|request| !is_shown_its_secret(request));
    assert!(without.is_none(), "{without:?}");
    let all = ["users", "shown", "asked", "bought", "proxied", "basic", "named", "posted", "token", "refusal"];
    for source in all {
        let of_source = requests.iter().filter(|request| request.url.path().starts_with(&format!("/{source}")));
        assert!(of_source.count() >= 2, "{source}");
    }
}

fn is_shown_its_secret(request: &wiremock::Request) -> bool {
    let field = |name: &str| request.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let query = request.url.query().unwrap_or_default();
    let basic = |pair: String| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    match request.url.path().split('/').nth(1).unwrap() {
        "users" => field("authorization") == format!("Bearer {TOKEN}") && query == format!("api_key={KEY}"),
        "shown" => field("authorization") == format!("Bearer {BEARER}"),
        "asked" => query == format!("key={PARAMETER}"),
        "bought" => field("authorization") == format!("Bearer {BOUGHT}"),
        "token" | "refusal" => field("authorization") == basic(format!("me:{CLIENT}")),
        "proxied" => field("proxy-authorization") == basic(format!("me:{PROXY}")),
        "basic" => field("authorization") == basic(format!("me:{BASIC}")),
        "named" => field("x-api-key") == FIELD,
        "posted" => request.body == format!("{{\"token\":\"{BODY}\"}}").as_bytes(),
        other => panic!("who asks for {other}?"),
    }
}

async fn upstream() -> MockServer {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = MockServer::builder().listener(listener).start().await;
    let moved_to = |url: String| ResponseTemplate::new(302).insert_header("location", url);
    for (key, answer) in [
        ("good", ResponseTemplate::new(200).set_body_string("good").insert_header("etag", "\"1\"")),
        ("bad", ResponseTemplate::new(500).insert_header("link", format!("<?api_key={KEY}&page=2>; rel=\"next\""))),
        ("moved", moved_to(format!("/users/good?api_key={KEY}"))),
        ("elsewhere", moved_to(format!("http://127.0.0.1:9/users/good?api_key={KEY}"))),
    ] {
        Mock::given(method("GET")).and(path(format!("/users/{key}"))).respond_with(answer).mount(&server).await;
    }
    for source in ["shown", "asked", "bought", "proxied", "basic", "named", "posted"] {
        let answer = ResponseTemplate::new(200).set_body_string(source);
        Mock::given(path(format!("/{source}/good"))).respond_with(answer).mount(&server).await;
    }
    for (key, to) in [("moved", "/asked/good"), ("elsewhere", "http://127.0.0.1:9/asked/good")] {
        let answer = moved_to(format!("{to}?key={PARAMETER}"));
        Mock::given(method("GET")).and(path(format!("/asked/{key}"))).respond_with(answer).mount(&server).await;
    }
    let token = format!(
        "{{\"access_token\":\"{BOUGHT}\",\"token_type\":\"bearer\",\"expires_in\":60,\"refresh_token\":\"{FURTHER}\"}}"
    );
    let refusal = format!("{{\"error\":\"{CLIENT}\",\"error_description\":\"{CLIENT}\"}}");
    for (at, answer) in [("/token", (200, token)), ("/refusal", (401, refusal))] {
        let answer = ResponseTemplate::new(answer.0).set_body_string(answer.1);
        Mock::given(method("POST")).and(path(at)).respond_with(answer).mount(&server).await;
    }
    server
}

fn config(origin: &str) -> String {
    let headers = "headers = { authorization = \"Bearer ${env:TOKEN}\" }\nrefresh_every = \"1h\"";
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_tokens = [\"{ADMIN}\"]\n[database]\nurl = \"${{env:DATABASE}}\"\n\
         [sources.users]\nurl = \"{origin}/users/{{key}}?api_key=${{env:KEY}}\"\nkeys = [\"good\", \"bad\", \"moved\", \"elsewhere\"]\n{headers}\n\
         [sources.down]\nurl = \"http://127.0.0.1:9/{{key}}?api_key=${{env:KEY}}\"\nkeys = [\"k\"]\n{headers}\n{}",
        upstreams(origin)
    )
}

/// The same with mistakes, for which an error may quote too much.
fn broken(origin: &str) -> String {
    config(origin)
        .replace("refresh_every", "refresh_evry")
        .replace(ADMIN, &format!("{ADMIN}\", \"{ADMIN}\", \"{}", &ADMIN[..10]))
        .replace("${env:DATABASE}", "x${env:DATABASE}")
        .replace("token\":\"${env:BODY}", "token\":${env:BODY}\"")
}

/// An upstream, and a source of the same name, for each place where an upstream's settings take a secret.
fn upstreams(origin: &str) -> String {
    let oauth2 = |at: &str| {
        format!(
            "auth.oauth2 = {{ token_url = \"{origin}/{at}\", client_id = \"me\", client_secret = \"${{env:CLIENT}}\" }}"
        )
    };
    let proxy = |at: &str| format!("proxy = \"http://me:${{env:PROXY}}@{at}\"");
    let all = [
        ("shown", origin, "auth = { bearer = \"${env:BEARER}\" }".to_owned()),
        ("asked", origin, "auth.query = { name = \"key\", value = \"${env:PARAMETER}\" }".to_owned()),
        ("bought", origin, oauth2("token")),
        ("unsold", origin, oauth2("refusal")),
        ("proxied", "http://api.invalid", proxy(origin.trim_start_matches("http://"))),
        ("lost", "https://api.invalid", proxy("127.0.0.1:9")),
        ("basic", origin, "auth.basic = { user = \"me\", password = \"${env:BASIC}\" }".to_owned()),
        ("named", origin, "auth.header = { name = \"x-api-key\", value = \"${env:FIELD}\" }".to_owned()),
        ("posted", origin, String::new()),
    ];
    all.map(|(name, origin, settings)| {
        let keys = if name == "asked" { "\"good\", \"moved\", \"elsewhere\"" } else { "\"good\"" };
        let body = if name == "posted" { "body = '{\"token\":\"${env:BODY}\"}'" } else { "" };
        format!(
            "[upstreams.{name}]\n{settings}\n[sources.{name}]\nupstream = \"{name}\"\nuser_agent = \"test\"\n\
             url = \"{origin}/{name}/{{key}}\"\nkeys = [{keys}]\nrefresh_every = \"1h\"\n{body}\n"
        )
    })
    .concat()
}

fn with_secrets(headpond: Headpond) -> Headpond {
    let secrets = [
        ("TOKEN", TOKEN),
        ("KEY", KEY),
        ("BEARER", BEARER),
        ("PARAMETER", PARAMETER),
        ("PROXY", PROXY),
        ("CLIENT", CLIENT),
        ("BASIC", BASIC),
        ("FIELD", FIELD),
        ("BODY", BODY),
        // Of no effect; if it had one, it would be to say more.
        ("RUST_LOG", "trace"),
    ];
    secrets.into_iter().fold(headpond, |headpond, (name, value)| headpond.with_variable(name, value))
}

/// No canary is in what was printed or answered.
fn assert_silent(said: &impl std::fmt::Debug) {
    let said = format!("{said:?}");
    if let Some(at) = said.find(CANARY) {
        let around = said.get(at.saturating_sub(300)..(at + 100).min(said.len())).unwrap_or(&said);
        panic!("a secret was shown: … {around} …");
    }
}

/// No row of any table has a canary in any column, as text or as bytes.
async fn assert_no_column_has_it(database: &Database) {
    // `canary-`, as Postgres writes bytes.
    let hex = "63616e6172792d";
    let count = format!(
        "SELECT coalesce(sum(found), 0)::bigint FROM (
             SELECT (xpath('/row/n/text()', query_to_xml(format(
                 'SELECT count(*) AS n FROM %I.%I AS t WHERE t::text LIKE ''%%{CANARY}%%'' OR t::text LIKE ''%%{hex}%%''',
                 schemaname, tablename), false, true, '')))[1]::text::bigint AS found
               FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')) AS tables"
    );
    assert_eq!(database.number(&count).await, 0);
    let good = "SELECT count(*) FROM {content} AS t WHERE t::text LIKE '%676f6f64%'";
    assert!(database.number(good).await > 0, "what is stored would be found");
}
