//! What is asked for, and what should become of it.

use std::fmt::Write;
use std::path::Path;

use crate::support::store::Database;

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Httpbin,
    Nginx,
}

/// One source with one key, on an upstream of its own, so that none waits for another's pauses.
#[derive(Debug)]
pub struct Case {
    /// Of source, upstream and user agent; what nginx answers to it is under this name.
    pub name: &'static str,
    pub origin: Origin,
    /// `NGINX` stands for nginx's origin.
    pub path: &'static str,
    /// What the table says of the settings.
    pub note: &'static str,
    /// Further settings of the source, and of the upstream.
    pub source: &'static str,
    pub upstream: &'static str,
    pub first: Expected,
    pub second: Expected,
    /// A part of the copy after the first pass.
    pub stores: &'static str,
}

/// What should become of one refresh.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    pub outcome: &'static str,
    pub answered: &'static [u16],
    pub because: &'static str,
    /// A part of the reason.
    pub why: &'static str,
    /// Whether the upstream's own limits may keep it from being asked at all.
    pub may_be_held: bool,
}

impl Origin {
    pub fn name(self) -> &'static str {
        match self {
            Self::Httpbin => "",
            Self::Nginx => "nginx:",
        }
    }
}

const fn expect(outcome: &'static str, answered: &'static [u16], because: &'static str, why: &'static str) -> Expected {
    Expected { outcome, answered, because, why, may_be_held: false }
}

const fn new(answered: &'static [u16]) -> Expected {
    expect("new", answered, "interval", "")
}

const fn unchanged(answered: &'static [u16]) -> Expected {
    expect("unchanged", answered, "interval", "")
}

const fn failed(outcome: &'static str, answered: &'static [u16], why: &'static str) -> Expected {
    expect(outcome, answered, "backoff", why)
}

/// The upstream itself is in trouble, and so are all its resources.
const fn outage(outcome: &'static str, answered: &'static [u16], why: &'static str) -> Expected {
    expect(outcome, answered, "outage", why)
}

const fn httpbin(name: &'static str, path: &'static str, first: Expected, second: Expected) -> Case {
    Case { name, origin: Origin::Httpbin, path, note: "", source: "", upstream: "", first, second, stores: "" }
}

const fn nginx(name: &'static str, path: &'static str, first: Expected, second: Expected) -> Case {
    Case { origin: Origin::Nginx, ..httpbin(name, path, first, second) }
}

/// The same failure twice.
const fn fails(
    name: &'static str,
    path: &'static str,
    outcome: &'static str,
    answered: &'static [u16],
    why: &'static str,
) -> Case {
    let expected = failed(outcome, answered, why);
    httpbin(name, path, expected, expected)
}

/// Two fields that contradict each other.
const CONFLICT: &str = "/response-headers?Cache-Control=public,max-age=7200&Cache-Control=no-store";

/// All of them. nginx is well in the first pass, and in trouble in the second.
pub const CASES: &[Case] = &[
    httpbin("etag", "/etag/v1", new(&[200]), expect("unchanged", &[304], "interval", "If-None-Match: v1")),
    httpbin("cache", "/cache", new(&[200]), unchanged(&[304])),
    Case {
        note: "every 10s",
        source: "refresh_every = '10s'",
        ..httpbin(
            "cache_60",
            "/cache/60",
            expect("new", &[200], "freshness", ""),
            expect("unchanged", &[200], "freshness", "the same content"),
        )
    },
    httpbin(
        "too_many",
        "/status/429",
        failed("failed: rate_limited", &[429], ""),
        Expected { may_be_held: true, ..failed("failed: rate_limited", &[429], "") },
    ),
    httpbin(
        "down",
        "/status/503",
        outage("failed: server_error", &[503], ""),
        Expected { may_be_held: true, ..outage("failed: server_error", &[503], "") },
    ),
    // Never seen, so that there is nothing to lose: it is gone at once.
    httpbin(
        "absent",
        "/status/404",
        expect("gone", &[404], "gone_recheck", ""),
        expect("gone", &[404], "gone_recheck", ""),
    ),
    fails("nothing", "/status/204", "failed: unexpected_status", &[204], ""),
    fails("empty", "/status/200", "failed: empty", &[200], "empty body"),
    Case { stores: "\"gzipped\": true", ..httpbin("gzip", "/gzip", new(&[200]), unchanged(&[200])) },
    Case { stores: "\"brotli\": true", ..httpbin("brotli", "/brotli", new(&[200]), unchanged(&[200])) },
    fails("deflate", "/deflate", "failed: truncated", &[200], "encoded as deflate, which was not asked for"),
    httpbin("drip", "/drip?numbytes=5&duration=0", new(&[200]), unchanged(&[200])),
    Case {
        note: "timeout 1s",
        source: "timeout = '1s'",
        ..httpbin(
            "drips_on",
            "/drip?numbytes=8&duration=4",
            outage("failed: timeout", &[200], "1s"),
            outage("failed: timeout", &[200], "1s"),
        )
    },
    Case { stores: "slideshow", ..httpbin("here", "/redirect-to?url=/json", new(&[302, 200]), unchanged(&[302, 200])) },
    httpbin("hops", "/absolute-redirect/3", new(&[302, 302, 302, 200]), unchanged(&[302, 302, 302, 200])),
    fails("too_far", "/relative-redirect/6", "failed: redirect", &[302; 6], "more than 5 times"),
    fails("elsewhere", "/redirect-to?url=NGINX/elsewhere", "failed: redirect", &[302], "another origin"),
    Case {
        note: "host allowed",
        source: "allow_redirect_hosts = ['NGINX_HOST']\nheaders = { x-tenant = '5' }",
        upstream: "auth = { bearer = 's3cret' }",
        stores: "authorization=[] tenant=[]",
        ..httpbin("allowed", "/redirect-to?url=NGINX/allowed", new(&[302, 200]), unchanged(&[302, 200]))
    },
    fails("files", "/redirect-to?url=file:///etc/passwd", "failed: redirect", &[302], "no http or https URL"),
    fails("metadata", "/redirect-to?url=http://169.254.169.254/", "failed: redirect", &[302], "169.254.169.254"),
    Case {
        note: "auth.basic",
        upstream: "auth = { basic = { user = 'me', password = 's3cret' } }",
        stores: "\"authenticated\": true",
        ..httpbin("basic", "/basic-auth/me/s3cret", new(&[200]), unchanged(&[200]))
    },
    Case {
        note: "wrong password",
        upstream: "auth = { basic = { user = 'me', password = 'wrong' } }",
        ..fails("not_me", "/basic-auth/me/s3cret", "failed: client_error", &[401], "401")
    },
    Case {
        note: "auth.bearer",
        upstream: "auth = { bearer = 's3cret' }",
        stores: "\"authenticated\": true",
        ..httpbin("bearer", "/bearer", new(&[200]), unchanged(&[200]))
    },
    Case { note: "no auth", ..fails("nobody", "/bearer", "failed: client_error", &[401], "401") },
    // The stricter counts: it carries no freshness, though one of them says two hours.
    Case { note: "schedule", ..httpbin("by_schedule", CONFLICT, new(&[200]), unchanged(&[200])) },
    Case {
        note: "respect",
        source: "cache_control = 'respect'",
        ..fails("respected", CONFLICT, "failed: unstorable", &[200], "no-store")
    },
    Case {
        note: "ignore",
        source: "cache_control = 'ignore'",
        ..httpbin("ignored", CONFLICT, new(&[200]), unchanged(&[200]))
    },
    httpbin("same_bytes", "/bytes/1024?seed=7", new(&[200]), unchanged(&[200])),
    httpbin("other", "/uuid", new(&[200]), expect("changed", &[200], "interval", "other content")),
    Case {
        note: "max_body 1KiB",
        source: "max_body = '1KiB'",
        ..fails("too_large", "/bytes/1025", "failed: too_large", &[200], "larger than max_body, 1024 bytes")
    },
    Case {
        note: "content json",
        source: "content = 'json'",
        ..fails("page", "/html", "failed: unparsable", &[200], "not JSON")
    },
    nginx("file", "/file/1.json", new(&[200]), expect("unchanged", &[304], "interval", "If-None-Match: \"")),
    nginx("zipped", "/zipped/1.json", new(&[200]), expect("unchanged", &[304], "interval", "If-None-Match: W/")),
    nginx("moved", "/moved/away", new(&[301, 200]), unchanged(&[301, 304])),
    nginx("looped", "/looped/1.json", new(&[200]), failed("failed: redirect", &[302], "redirects in a loop")),
    nginx("limited", "/limited/1.json", new(&[200]), expect("failed: rate_limited", &[429], "retry_after", "")),
    nginx("busy", "/busy/1.json", new(&[200]), expect("failed: server_error", &[503], "retry_after", "")),
    nginx("cut", "/cut/1.json", new(&[200]), failed("failed: truncated", &[200], "broke off before its end")),
    nginx("lost", "/lost/1.json", new(&[200]), failed("failed: not_found", &[404], "")),
    nginx("gone", "/gone/1.json", new(&[200]), expect("gone", &[410], "gone_recheck", "")),
];

/// The configuration for all of them.
pub fn config(database: &Database, httpbin: &str, nginx: &str) -> String {
    let mut config = format!("[database]\nurl = '{}'\n[defaults]\nrefresh_every = '1h'\n", database.url());
    for Case { name, origin, path, source, upstream, .. } in CASES {
        let origin = if *origin == Origin::Httpbin { httpbin } else { nginx };
        let case = format!(
            "[upstreams.{name}]\n{upstream}\n[sources.{name}]\nupstream = '{name}'\nuser_agent = '{name}'\n\
             url = '{origin}{path}'\nkeys = ['k']\n{source}\n"
        );
        let host = nginx.trim_start_matches("http://");
        config.write_str(&case.replace("NGINX_HOST", host).replace("NGINX", nginx)).unwrap();
    }
    config
}

/// What nginx does: each is a file, until `trouble` is there.
pub fn nginx_locations(trouble: &Path, httpbin: &str) -> String {
    let trouble = trouble.display();
    let in_trouble = |name: &str, then: &str| format!("location /{name}/ {{ if (-f {trouble}) {{ {then} }} }}\n");
    [
        "location /zipped/ { gzip on; gzip_min_length 1; gzip_types application/json; }\n".to_owned(),
        "location = /moved/away { return 301 /moved/1.json; }\n".to_owned(),
        "location = /allowed { default_type text/plain; \
         return 200 'authorization=[$http_authorization] tenant=[$http_x_tenant]'; }\n"
            .to_owned(),
        in_trouble("looped", "return 302 $request_uri;"),
        in_trouble("limited", "add_header Retry-After 120 always; return 429;"),
        in_trouble("busy", "add_header Retry-After 'Fri, 31 Dec 2100 23:59:59 GMT' always; return 503;"),
        in_trouble("lost", "return 404;"),
        in_trouble("gone", "return 410;"),
        // httpbin pauses for longer than nginx waits, which then closes the connection in the middle of the body.
        format!(
            "location /cut/ {{ proxy_read_timeout 500ms; if (-f {trouble}) {{ rewrite ^ /drip?numbytes=3&duration=6 break; \
             proxy_pass {httpbin}; }} }}\n"
        ),
    ]
    .concat()
}
