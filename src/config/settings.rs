//! Every setting that there is: what the reader accepts and what errors suggest. `config.example.toml` explains them to
//! users; the tests here hold it against this list.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use http::{HeaderMap, HeaderValue, Method};
use rustls::pki_types::CertificateDer;
use secrecy::SecretString;
use url::Url;

use crate::domain::allowance::Fields;
use crate::domain::budget::Budgets;
use crate::domain::change::ChangeKind;
use crate::domain::content::{ContentKind, JsonPath};
use crate::domain::governor::PauseScope;
use crate::domain::history::History;
use crate::domain::policy::Heed;
use crate::domain::resource::SourceName;
use crate::domain::table::Table;
use crate::domain::template::UrlTemplate;
use crate::domain::webhook::Secret;

use super::CorsOrigins;
use super::certificates::ClientCertificate;
use super::collection::{Pages, Since, SourceKind};
use super::credentials::Credentials;
use super::environment::Text;
use super::history::{HISTORY as REPLACED, KEEP_OR_ERASE};
use super::keys_from::KeysFrom;
use super::kinds::{
    ADDRESS, ALLOWANCE as FIELDS_OF_ALLOWANCE, AUTHORITIES, BODY as BODY_TEXT, BUDGETS as BUDGET_LIST,
    CLIENT_CERTIFICATE as CERTIFICATE_TABLE, CONTENT_KIND, COUNT, CREDENTIALS, CRON, DATABASE_URL, FLAG,
    HEADERS as HEADER_TABLE, HEED, HOSTS, INTERVAL, KEYS as KEY_LIST, KEYS_FROM as KEY_PLACES, MEDIA_TYPES,
    METHOD as GET_OR_POST, NAME, ON_DEMAND as KEYS_ON_DEMAND, PAGES, PATH, PATHS, PAUSE_SCOPE as SCOPES, PHRASES,
    POSITIVE_SPAN, PRESET as PRESETS, PROXY as PROXY_URL, RATE, SHARE, SINCE, SIZE, SOURCE_KIND, SPAN, TEMPLATE,
    USER_AGENT as AGENT, ZONE,
};
use super::on_demand::OnDemand;
use super::origins::ORIGINS;
use super::preset::Preset;
use super::reader::Shows;
use super::setting::Fallback::{Computed, Is};
use super::setting::{AnySetting, Scope, Setting};
use super::table::{ROLES, SCHEMA, TYPED};
use super::tokens::TOKENS;
use super::{transport, webhook};

/// Where requests of a source are described.
const REQUEST: &[Scope] = &[Scope::Source, Scope::Upstream, Scope::Defaults];
/// Where limits are set.
const LIMITS: &[Scope] = &[Scope::Upstream, Scope::Defaults];
const WEBHOOK: &[Scope] = &[Scope::Webhook];
/// Where a source's schedule and rules are set.
const POLICY: &[Scope] = &[Scope::Source, Scope::Defaults];

/// All settings.
pub(super) static ALL: &[&dyn AnySetting] = &[
    &LISTEN,
    &READ_TOKENS,
    &ADMIN_TOKENS,
    &ALLOW_ANONYMOUS_READS,
    &CORS_ORIGINS,
    &MAX_CONNECTIONS,
    &MAX_STREAMS,
    &SHUTDOWN_GRACE,
    &HEADER_TIMEOUT,
    &REQUEST_TIMEOUT,
    &IDLE_TIMEOUT,
    &URL_OF_DATABASE,
    &READERS,
    &RETENTION,
    &KEEP_CHANGES,
    &TABLE_SCHEMA,
    &GRANT_SELECT_TO,
    &ALLOW_TABLE_CHANGES,
    &REQUESTS_PER_SECOND_LIMIT,
    &BURST,
    &MAX_CONCURRENT_REQUESTS,
    &BUDGETS,
    &AUTH,
    &CLIENT_CERTIFICATE,
    &CA_CERTIFICATES,
    &PROXY,
    &BLOCK_PRIVATE_NETWORKS,
    &ALLOW_REDIRECT_HOSTS,
    &UPSTREAM,
    &URL,
    &KEYS,
    &KEYS_FROM,
    &ON_DEMAND,
    &POLL,
    &BATCH,
    &ABSENT_MEANS_GONE,
    &KIND,
    &ITEMS,
    &ITEM_KEY,
    &PAGINATE,
    &UPDATED_SINCE,
    &SWEEP_EVERY,
    &REFRESH_EVERY,
    &REFRESH_CRON,
    &TIMEZONE,
    &JITTER,
    &STALE_AFTER,
    &CACHE_CONTROL,
    &FRESHNESS_CAP,
    &CONTENT,
    &DATA,
    &DROP,
    &IGNORE_CHANGES_IN,
    &TABLE,
    &METHOD,
    &BODY,
    &CONTENT_TYPE,
    &ACCEPT,
    &HEADERS,
    &USER_AGENT,
    &TIMEOUT,
    &MAX_BODY,
    &BACKOFF_INITIAL,
    &BACKOFF_CAP,
    &RETRY_AFTER_CAP,
    &ALLOWANCE,
    &LIMIT_PHRASES,
    &PRESET,
    &COORDINATE_DECIMALS,
    &EARLY_REFRESH,
    &PAUSE_SCOPE,
    &GONE_AFTER,
    &GONE_WINDOW,
    &GONE_RECHECK,
    &MAX_DELETE_SHARE,
    &HISTORY,
    &ON_GONE,
    &WEBHOOK_NAME,
    &WEBHOOK_URL,
    &WEBHOOK_SECRET,
    &WEBHOOK_SOURCES,
    &WEBHOOK_KINDS,
    &INCLUDE,
    &WEBHOOK_TIMEOUT,
    &GIVE_UP_AFTER,
];

/// The settings of one kind of table.
pub(super) fn of(scope: Scope) -> impl Iterator<Item = &'static dyn AnySetting> + Clone {
    ALL.iter().copied().filter(move |setting| setting.scopes().contains(&scope))
}

/// The address and port of the read API.
pub(super) static LISTEN: Setting<SocketAddr> = Setting {
    name: "listen",
    scopes: &[Scope::Server],
    kind: &ADDRESS,
    default: Is("\"127.0.0.1:8080\""),
    shows: Shows::Value,
};

/// Who may read. A source's own take the place of the server's for that source.
pub(super) static READ_TOKENS: Setting<Vec<SecretString>> = Setting {
    name: "read_tokens",
    scopes: &[Scope::Server, Scope::Source],
    kind: &TOKENS,
    default: Computed,
    shows: Shows::Secret,
};

/// Who may administer, and read everything.
pub(super) static ADMIN_TOKENS: Setting<Vec<SecretString>> =
    Setting { name: "admin_tokens", scopes: &[Scope::Server], kind: &TOKENS, default: Computed, shows: Shows::Secret };

/// Whether `listen` may be an address that other machines reach, without `read_tokens`: they can then read everything.
pub(super) static ALLOW_ANONYMOUS_READS: Setting<bool> = Setting {
    name: "allow_anonymous_reads",
    scopes: &[Scope::Server],
    kind: &FLAG,
    default: Is("false"),
    shows: Shows::Value,
};

/// The web pages that may read.
pub(super) static CORS_ORIGINS: Setting<CorsOrigins> =
    Setting { name: "cors_origins", scopes: &[Scope::Server], kind: &ORIGINS, default: Is("[]"), shows: Shows::Value };

/// Readers' connections at the same time.
pub(super) static MAX_CONNECTIONS: Setting<u32> = Setting {
    name: "max_connections",
    scopes: &[Scope::Server],
    kind: &COUNT,
    default: Is("10_000"),
    shows: Shows::Value,
};

/// Answers that go on for long, at the same time: the feed as events, and whole sources.
pub(super) static MAX_STREAMS: Setting<u32> =
    Setting { name: "max_streams", scopes: &[Scope::Server], kind: &COUNT, default: Computed, shows: Shows::Value };

/// How long work under way may take to finish after SIGTERM or SIGINT.
pub(super) static SHUTDOWN_GRACE: Setting<Duration> = Setting {
    name: "shutdown_grace",
    scopes: &[Scope::Server],
    kind: &SPAN,
    default: Is("\"10s\""),
    shows: Shows::Value,
};

/// How long a client may take to send the headers of a request.
pub(super) static HEADER_TIMEOUT: Setting<Duration> = Setting {
    name: "header_timeout",
    scopes: &[Scope::Server],
    kind: &POSITIVE_SPAN,
    default: Is("\"10s\""),
    shows: Shows::Value,
};

/// How long a request may take to be answered.
pub(super) static REQUEST_TIMEOUT: Setting<Duration> = Setting {
    name: "request_timeout",
    scopes: &[Scope::Server],
    kind: &POSITIVE_SPAN,
    default: Is("\"30s\""),
    shows: Shows::Value,
};

/// How long a connection may be idle between requests.
pub(super) static IDLE_TIMEOUT: Setting<Duration> = Setting {
    name: "idle_timeout",
    scopes: &[Scope::Server],
    kind: &POSITIVE_SPAN,
    default: Is("\"75s\""),
    shows: Shows::Value,
};

/// Where the copy is kept: `sqlite://PATH` (relative to the working directory) or `postgres://…`.
pub(super) static URL_OF_DATABASE: Setting<Text> = Setting {
    name: "url",
    scopes: &[Scope::Database],
    kind: &DATABASE_URL,
    default: Is("\"sqlite://headpond.db\""),
    shows: Shows::Secret,
};

/// Connections for reading.
pub(super) static READERS: Setting<u32> =
    Setting { name: "readers", scopes: &[Scope::Database], kind: &COUNT, default: Is("4"), shows: Shows::Value };

/// How long a key that is no longer listed keeps its data.
pub(super) static RETENTION: Setting<Duration> =
    Setting { name: "retention", scopes: &[Scope::Database], kind: &SPAN, default: Is("\"30d\""), shows: Shows::Value };

/// How long entries of the change feed are kept.
pub(super) static KEEP_CHANGES: Setting<Duration> = Setting {
    name: "keep_changes",
    scopes: &[Scope::Database],
    kind: &POSITIVE_SPAN,
    default: Is("\"7d\""),
    shows: Shows::Value,
};

/// The schema of the views that apps read typed tables from. Made if it isn't there. Postgres alone.
pub(super) static TABLE_SCHEMA: Setting<String> = Setting {
    name: "table_schema",
    scopes: &[Scope::Database],
    kind: &SCHEMA,
    default: Is("\"headpond_data\""),
    shows: Shows::Value,
};

/// The roles that may read typed tables. Postgres alone.
pub(super) static GRANT_SELECT_TO: Setting<Vec<String>> = Setting {
    name: "grant_select_to",
    scopes: &[Scope::Database],
    kind: &ROLES,
    default: Is("[]"),
    shows: Shows::Value,
};

/// Whether typed tables may lose columns, rows or their names when the configuration says so.
pub(super) static ALLOW_TABLE_CHANGES: Setting<bool> = Setting {
    name: "allow_table_changes",
    scopes: &[Scope::Database],
    kind: &FLAG,
    default: Is("false"),
    shows: Shows::Value,
};

/// Requests per second on average, over all its sources and all processes. Default: no limit.
pub(super) static REQUESTS_PER_SECOND_LIMIT: Setting<f64> =
    Setting { name: "requests_per_second_limit", scopes: LIMITS, kind: &RATE, default: Computed, shows: Shows::Value };

/// How many requests more than the limit one second may see. A burst of 1 is the politest, and costs up to a tenth of the
/// limit. Default: a fifth of the limit, rounded up; at least 2.
pub(super) static BURST: Setting<u32> =
    Setting { name: "burst", scopes: LIMITS, kind: &COUNT, default: Computed, shows: Shows::Value };

/// How many requests may be under way at once, over all its sources and all processes.
pub(super) static MAX_CONCURRENT_REQUESTS: Setting<u32> =
    Setting { name: "max_concurrent_requests", scopes: LIMITS, kind: &COUNT, default: Is("8"), shows: Shows::Value };

/// How many requests may be sent in windows of minutes, hours, days …, each wherever it begins.
pub(super) static BUDGETS: Setting<Budgets> =
    Setting { name: "budgets", scopes: LIMITS, kind: &BUDGET_LIST, default: Is("[]"), shows: Shows::Value };

/// What the upstream is shown with each request to its sources' origins. Default: nothing.
pub(super) static AUTH: Setting<Credentials> = Setting {
    name: "auth",
    // Not in [defaults]: it would go to every host.
    scopes: &[Scope::Upstream],
    kind: &CREDENTIALS,
    default: Computed,
    shows: Shows::Secret,
};

/// The certificate that is shown to servers which ask for one, and its key. Default: none.
pub(super) static CLIENT_CERTIFICATE: Setting<ClientCertificate> = Setting {
    name: "client_certificate",
    scopes: &[Scope::Upstream],
    kind: &CERTIFICATE_TABLE,
    default: Computed,
    shows: Shows::Value,
};

/// A file of certificate authorities that are trusted besides the machine's. Default: none.
pub(super) static CA_CERTIFICATES: Setting<Vec<CertificateDer<'static>>> =
    Setting { name: "ca_certificates", scopes: LIMITS, kind: &AUTHORITIES, default: Computed, shows: Shows::Value };

/// The HTTP proxy through which requests go. What the environment says of proxies is not looked at.
pub(super) static PROXY: Setting<Option<transport::Proxy>> =
    Setting { name: "proxy", scopes: LIMITS, kind: &PROXY_URL, default: Is("\"none\""), shows: Shows::Url };

/// Whether only public addresses are connected to: none of this machine, of private networks and of single links, be they
/// written down, named, or led to by redirects.
pub(super) static BLOCK_PRIVATE_NETWORKS: Setting<bool> =
    Setting { name: "block_private_networks", scopes: LIMITS, kind: &FLAG, default: Is("false"), shows: Shows::Value };

/// The hosts that redirects may lead to besides the one that was asked. They are shown no credentials and none of `headers`.
pub(super) static ALLOW_REDIRECT_HOSTS: Setting<Vec<transport::RedirectHost>> = Setting {
    name: "allow_redirect_hosts",
    scopes: &[Scope::Source, Scope::Upstream],
    kind: &HOSTS,
    default: Is("[]"),
    shows: Shows::Value,
};

/// The table of `[upstreams]` whose limits and request settings hold for this source. Default: one upstream for all
/// sources with the same scheme, host and port.
pub(super) static UPSTREAM: Setting<Text> =
    Setting { name: "upstream", scopes: &[Scope::Source], kind: &NAME, default: Computed, shows: Shows::Value };

/// Where its resources are (RFC 6570): `{key}` stands for the key, other names for parameters of the key.
/// Required.
pub(super) static URL: Setting<UrlTemplate> =
    Setting { name: "url", scopes: &[Scope::Source], kind: &TEMPLATE, default: Computed, shows: Shows::Url };

/// Its keys: texts, or tables of `key` and the parameters that `url` needs. Default: none.
pub(super) static KEYS: Setting<()> =
    Setting { name: "keys", scopes: &[Scope::Source], kind: &KEY_LIST, default: Computed, shows: Shows::Value };

/// Where else its keys come from: a table, or a list of them. Default: nowhere.
pub(super) static KEYS_FROM: Setting<Vec<KeysFrom>> =
    Setting { name: "keys_from", scopes: &[Scope::Source], kind: &KEY_PLACES, default: Computed, shows: Shows::Value };

/// Whether readers may ask for other keys: `true`, or a table of how these come and go.
pub(super) static ON_DEMAND: Setting<Option<OnDemand>> = Setting {
    name: "on_demand",
    scopes: &[Scope::Source],
    kind: &KEYS_ON_DEMAND,
    default: Is("false"),
    shows: Shows::Value,
};

/// Whether keys are refreshed by schedule. Without, whoever reads a stale copy has it refreshed.
pub(super) static POLL: Setting<bool> =
    Setting { name: "poll", scopes: &[Scope::Source], kind: &FLAG, default: Is("true"), shows: Shows::Value };

/// How many keys one request asks for: `url` has `{keys}` then, which stands for all of them. Default: each key is asked for by
/// itself.
pub(super) static BATCH: Setting<u32> =
    Setting { name: "batch", scopes: &[Scope::Source], kind: &COUNT, default: Computed, shows: Shows::Value };

/// Whether a key that was asked for and has no item in the answer counts as answered with 404; else it is a failure of that key.
pub(super) static ABSENT_MEANS_GONE: Setting<bool> = Setting {
    name: "absent_means_gone",
    scopes: &[Scope::Source],
    kind: &FLAG,
    default: Is("false"),
    shows: Shows::Value,
};

/// What it is: `"collection"` for a list that the upstream pages out, of which one walk brings many resources. Default: each key
/// is asked for by itself.
pub(super) static KIND: Setting<SourceKind> =
    Setting { name: "kind", scopes: &[Scope::Source], kind: &SOURCE_KIND, default: Computed, shows: Shows::Value };

/// Where the members of a collection are in a page, or the items in an answer about many keys. Required for collections and with
/// `batch`.
pub(super) static ITEMS: Setting<JsonPath> =
    Setting { name: "items", scopes: &[Scope::Source], kind: &PATH, default: Computed, shows: Shows::Value };

/// Where the key is in an item. Required for collections and with `batch`.
pub(super) static ITEM_KEY: Setting<JsonPath> =
    Setting { name: "item_key", scopes: &[Scope::Source], kind: &PATH, default: Computed, shows: Shows::Value };

/// How one page of a collection leads to the next. Default: there is one page.
pub(super) static PAGINATE: Setting<Pages> =
    Setting { name: "paginate", scopes: &[Scope::Source], kind: &PAGES, default: Computed, shows: Shows::Value };

/// How to ask for the members of a collection that have changed. Default: each walk looks at all of them.
pub(super) static UPDATED_SINCE: Setting<Since> =
    Setting { name: "updated_since", scopes: &[Scope::Source], kind: &SINCE, default: Computed, shows: Shows::Value };

/// How often all members are walked where `updated_since` asks for changes. Default: "1d", at least the interval.
pub(super) static SWEEP_EVERY: Setting<Duration> =
    Setting { name: "sweep_every", scopes: &[Scope::Source], kind: &INTERVAL, default: Computed, shows: Shows::Value };

/// How often each key is refreshed; the keys are spread evenly over the interval. Required, unless there
/// is `refresh_cron`, or `poll` is false.
pub(super) static REFRESH_EVERY: Setting<Duration> =
    Setting { name: "refresh_every", scopes: POLICY, kind: &INTERVAL, default: Computed, shows: Shows::Value };

/// When all keys are refreshed: minute, hour, day of month, month, day of week. In place of `refresh_every`.
/// Default: none.
pub(super) static REFRESH_CRON: Setting<String> =
    Setting { name: "refresh_cron", scopes: POLICY, kind: &CRON, default: Computed, shows: Shows::Value };

/// The time zone of `refresh_cron`; changes to and from summer time are followed.
pub(super) static TIMEZONE: Setting<Tz> =
    Setting { name: "timezone", scopes: POLICY, kind: &ZONE, default: Is("\"UTC\""), shows: Shows::Value };

/// The most that is added at random to each regular due time.
pub(super) static JITTER: Setting<Duration> =
    Setting { name: "jitter", scopes: POLICY, kind: &SPAN, default: Is("\"0s\""), shows: Shows::Value };

/// From which age on a copy is called stale. It is still served. Default: twice the interval.
pub(super) static STALE_AFTER: Setting<Duration> =
    Setting { name: "stale_after", scopes: POLICY, kind: &POSITIVE_SPAN, default: Computed, shows: Shows::Value };

/// What the upstream's own freshness lifetime is heeded for: the schedule alone, or also whether copies may be stored and
/// answered (RFC 9111), or nothing.
pub(super) static CACHE_CONTROL: Setting<Heed> =
    Setting { name: "cache_control", scopes: POLICY, kind: &HEED, default: Is("\"schedule\""), shows: Shows::Value };

/// The most that the upstream's own freshness lifetime (Cache-Control, Expires) can delay a refresh.
pub(super) static FRESHNESS_CAP: Setting<Duration> =
    Setting { name: "freshness_cap", scopes: POLICY, kind: &SPAN, default: Is("\"1d\""), shows: Shows::Value };

/// What bodies must be. Default: JSON where the upstream calls them so or parts of them are named, else anything.
pub(super) static CONTENT: Setting<ContentKind> =
    Setting { name: "content", scopes: POLICY, kind: &CONTENT_KIND, default: Computed, shows: Shows::Value };

/// The one part of a JSON body that is kept instead of all of it. Default: all of it.
pub(super) static DATA: Setting<JsonPath> =
    Setting { name: "data", scopes: &[Scope::Source], kind: &PATH, default: Computed, shows: Shows::Value };

/// Parts of a JSON body that are stored nowhere.
pub(super) static DROP: Setting<Vec<JsonPath>> =
    Setting { name: "drop", scopes: &[Scope::Source], kind: &PATHS, default: Is("[]"), shows: Shows::Value };

/// Parts of a JSON body whose changes make no new version.
pub(super) static IGNORE_CHANGES_IN: Setting<Vec<JsonPath>> =
    Setting { name: "ignore_changes_in", scopes: POLICY, kind: &PATHS, default: Is("[]"), shows: Shows::Value };

/// What of its copies becomes columns of a table.
pub(super) static TABLE: Setting<Arc<Table>> =
    Setting { name: "table", scopes: &[Scope::Source], kind: &TYPED, default: Computed, shows: Shows::Value };

/// How its resources are asked for: `"GET"`, or `"POST"` for search endpoints and GraphQL. A POST is never conditional: its
/// If-None-Match would mean something else (RFC 9110 §13.1.2). Default: "POST" where there is a body, else "GET".
pub(super) static METHOD: Setting<Method> =
    Setting { name: "method", scopes: &[Scope::Source], kind: &GET_OR_POST, default: Computed, shows: Shows::Value };

/// What a POST sends: a text in which `{key}` stands for the key, other names for parameters of the key. Default: nothing.
pub(super) static BODY: Setting<Text> =
    Setting { name: "body", scopes: &[Scope::Source], kind: &BODY_TEXT, default: Computed, shows: Shows::Secret };

/// The media type of `body`. Default: "application/json".
pub(super) static CONTENT_TYPE: Setting<HeaderValue> = Setting {
    name: "content_type",
    scopes: &[Scope::Source],
    kind: &MEDIA_TYPES,
    default: Computed,
    shows: Shows::Value,
};

/// Which media types are asked for. Default: any.
pub(super) static ACCEPT: Setting<HeaderValue> =
    Setting { name: "accept", scopes: REQUEST, kind: &MEDIA_TYPES, default: Computed, shows: Shows::Value };

/// Header fields to send. A source adds to those of its upstream, and wins where both have one.
pub(super) static HEADERS: Setting<HeaderMap> = Setting {
    name: "headers",
    // Not in [defaults]: a credential there would go to every host.
    scopes: &[Scope::Source, Scope::Upstream],
    kind: &HEADER_TABLE,
    default: Is("{}"),
    shows: Shows::Secret,
};

/// Who asks: a name and a contact, since public APIs block clients that they can't reach. Required for any host
/// but this machine.
pub(super) static USER_AGENT: Setting<HeaderValue> =
    Setting { name: "user_agent", scopes: REQUEST, kind: &AGENT, default: Computed, shows: Shows::Value };

/// The total deadline of a request, from connecting to the last byte, redirects included.
pub(super) static TIMEOUT: Setting<Duration> =
    Setting { name: "timeout", scopes: REQUEST, kind: &POSITIVE_SPAN, default: Is("\"30s\""), shows: Shows::Value };

/// The largest body after decompression; a larger one is a failure.
pub(super) static MAX_BODY: Setting<u64> =
    Setting { name: "max_body", scopes: REQUEST, kind: &SIZE, default: Is("\"16MiB\""), shows: Shows::Value };

/// The wait after a first failure; it doubles with each further one, up to `backoff_cap`.
pub(super) static BACKOFF_INITIAL: Setting<Duration> = Setting {
    name: "backoff_initial",
    scopes: POLICY,
    kind: &POSITIVE_SPAN,
    default: Is("\"5s\""),
    shows: Shows::Value,
};

/// The longest wait after failures. No number of failures stops a resource for good. Default: the interval; "1h"
/// with `refresh_cron`.
pub(super) static BACKOFF_CAP: Setting<Duration> =
    Setting { name: "backoff_cap", scopes: POLICY, kind: &POSITIVE_SPAN, default: Computed, shows: Shows::Value };

/// The longest Retry-After of an upstream that is obeyed, and the longest wait for a new allowance.
pub(super) static RETRY_AFTER_CAP: Setting<Duration> = Setting {
    name: "retry_after_cap",
    scopes: POLICY,
    kind: &POSITIVE_SPAN,
    default: Is("\"48h\""),
    shows: Shows::Value,
};

/// The header fields that say how much is left of the upstream's allowance and when there is more, beside the standardised
/// ones; `"ignore"`, where none of these are to be heeded, and X-Poll-Interval neither.
pub(super) static ALLOWANCE: Setting<Option<Fields>> = Setting {
    name: "allowance",
    scopes: LIMITS,
    kind: &FIELDS_OF_ALLOWANCE,
    default: Is("{ remaining = \"x-ratelimit-remaining\", reset = \"x-ratelimit-reset\", reset_is = \"auto\" }"),
    shows: Shows::Value,
};

/// What the body of a 403 or 429 says, in whatever case, where it is a limit and no refusal: then it is left alone for a minute at
/// least.
pub(super) static LIMIT_PHRASES: Setting<Vec<String>> =
    Setting { name: "limit_phrases", scopes: LIMITS, kind: &PHRASES, default: Is("[]"), shows: Shows::Value };

/// A well-known API, whose rules hold where neither the source nor the upstream says otherwise. Default: none.
pub(super) static PRESET: Setting<Preset> =
    Setting { name: "preset", scopes: &[Scope::Upstream], kind: &PRESETS, default: Computed, shows: Shows::Value };

/// How many decimals of the parameters `lat` and `lon` are sent; more are cut off. Default: all.
pub(super) static COORDINATE_DECIMALS: Setting<u32> = Setting {
    name: "coordinate_decimals",
    scopes: &[Scope::Source, Scope::Upstream],
    kind: &COUNT,
    default: Computed,
    shows: Shows::Value,
};

/// Whether a reader can have a copy asked for again that is fresh by the upstream's own word.
pub(super) static EARLY_REFRESH: Setting<bool> =
    Setting { name: "early_refresh", scopes: REQUEST, kind: &FLAG, default: Is("true"), shows: Shows::Value };

/// What a 429 or 503 is about: all of the upstream, the source, or the one key. What it is about is left alone until its
/// Retry-After; then one request finds out whether the rest may follow.
pub(super) static PAUSE_SCOPE: Setting<PauseScope> =
    Setting { name: "pause_scope", scopes: REQUEST, kind: &SCOPES, default: Is("\"upstream\""), shows: Shows::Value };

/// After how many answers of 404 in a row a resource counts as gone. A 410 counts at once.
pub(super) static GONE_AFTER: Setting<u32> =
    Setting { name: "gone_after", scopes: POLICY, kind: &COUNT, default: Is("3"), shows: Shows::Value };

/// Over how long those 404s must come. Default: the interval, at least "1h".
pub(super) static GONE_WINDOW: Setting<Duration> =
    Setting { name: "gone_window", scopes: POLICY, kind: &SPAN, default: Computed, shows: Shows::Value };

/// How often a resource that is gone is looked at again.
pub(super) static GONE_RECHECK: Setting<Duration> =
    Setting { name: "gone_recheck", scopes: POLICY, kind: &POSITIVE_SPAN, default: Is("\"1d\""), shows: Shows::Value };

/// The share of a source's keys that may become gone within one interval; the rest is held back and reported.
pub(super) static MAX_DELETE_SHARE: Setting<f64> =
    Setting { name: "max_delete_share", scopes: POLICY, kind: &SHARE, default: Is("0.1"), shows: Shows::Value };

/// What is kept of contents that were replaced: so many of each resource, for so long. Default: nothing.
pub(super) static HISTORY: Setting<History> =
    Setting { name: "history", scopes: POLICY, kind: &REPLACED, default: Computed, shows: Shows::Value };

/// What becomes of what was kept of a resource that is gone upstream: `"keep"` or `"erase"`.
pub(super) static ON_GONE: Setting<bool> =
    Setting { name: "on_gone", scopes: POLICY, kind: &KEEP_OR_ERASE, default: Is("\"keep\""), shows: Shows::Value };

/// The name of a webhook, by which its place in the feed is remembered.
pub(super) static WEBHOOK_NAME: Setting<String> =
    Setting { name: "name", scopes: WEBHOOK, kind: &webhook::NAME, default: Computed, shows: Shows::Value };

/// Where it is told.
pub(super) static WEBHOOK_URL: Setting<Url> =
    Setting { name: "url", scopes: WEBHOOK, kind: &webhook::ENDPOINT, default: Computed, shows: Shows::Name };

/// What messages are signed with.
pub(super) static WEBHOOK_SECRET: Setting<Secret> =
    Setting { name: "secret", scopes: WEBHOOK, kind: &webhook::SECRET, default: Computed, shows: Shows::Name };

/// The sources whose changes it is told. Default: all.
pub(super) static WEBHOOK_SOURCES: Setting<Vec<SourceName>> =
    Setting { name: "sources", scopes: WEBHOOK, kind: &webhook::SOURCES, default: Computed, shows: Shows::Value };

/// The kinds of changes that it is told. Default: all.
pub(super) static WEBHOOK_KINDS: Setting<Vec<ChangeKind>> =
    Setting { name: "kinds", scopes: WEBHOOK, kind: &webhook::KINDS, default: Computed, shows: Shows::Value };

/// Whether the resources come with their changes: `"data"`.
pub(super) static INCLUDE: Setting<bool> = Setting {
    name: "include",
    scopes: WEBHOOK,
    kind: &webhook::INCLUDE,
    default: Is("\"nothing\""),
    shows: Shows::Value,
};

/// How long it may take to answer.
pub(super) static WEBHOOK_TIMEOUT: Setting<Duration> =
    Setting { name: "timeout", scopes: WEBHOOK, kind: &POSITIVE_SPAN, default: Is("\"15s\""), shows: Shows::Value };

/// After how long a message that it does not take ends all sending.
pub(super) static GIVE_UP_AFTER: Setting<Duration> = Setting {
    name: "give_up_after",
    scopes: WEBHOOK,
    kind: &POSITIVE_SPAN,
    default: Is("\"5d\""),
    shows: Shows::Value,
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::{OsStr, OsString};
    use std::io;
    use std::path::Path;

    use super::*;
    use crate::config::reader::Reader;
    use crate::config::setting::Fallback;
    use crate::config::value::Value;
    use crate::config::{Environment, load};

    const EXAMPLE: &str = include_str!("../../config.example.toml");
    const PAGE: &str = include_str!("../../docs/config.md");

    /// The example, with these variables set.
    struct Example(String);

    impl Environment for Example {
        fn variable(&self, name: &str) -> Option<OsString> {
            // Each has a value of its own: two that are the same would be refused.
            name.contains("TOKEN").then(|| format!("the-value-of-{name}").into())
        }

        fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
            Ok(match path.extension().and_then(OsStr::to_str) {
                Some("pem") => include_bytes!("../../tests/it/support/tls/client.cert.pem").into(),
                Some("key") => include_bytes!("../../tests/it/support/tls/client.key.pem").into(),
                _ => self.0.clone().into(),
            })
        }
    }

    /// The settings of the example: table, name, value, and whether it is commented out.
    fn in_example() -> Vec<(Scope, &'static str, &'static str, bool)> {
        let mut scope = None;
        let mut found = Vec::new();
        for line in EXAMPLE.lines() {
            let (line, commented) = line.strip_prefix("# ").map_or((line, false), |line| (line, true));
            if line.starts_with('[') {
                scope = Scope::ALL
                    .into_iter()
                    .find(|scope| line.starts_with(scope.heading().split("NAME").next().unwrap()));
                // A header's name is no setting.
                scope = scope.filter(|_| !line.ends_with(".headers]"));
                if line.ends_with(".headers]") {
                    found.push((Scope::Source, "headers", "", false));
                }
            } else if let (Some((name, value)), Some(scope)) = (line.split_once(" = "), scope)
                && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            {
                found.push((scope, name, value, commented));
            }
        }
        found
    }

    #[test]
    fn the_example_has_every_setting_and_no_other() {
        let found: BTreeSet<_> = in_example().into_iter().map(|(_, name, ..)| name).collect();
        let known: BTreeSet<_> = ALL.iter().map(|setting| setting.name()).collect();
        assert_eq!(found, known);
        for (scope, name, ..) in in_example() {
            assert!(of(scope).any(|setting| setting.name() == name), "{name} is no setting of {}", scope.heading());
        }
        for scope in [Scope::Server, Scope::Database] {
            for setting in of(scope) {
                assert!(in_example().iter().any(|(at, name, ..)| (*at, *name) == (scope, setting.name())));
            }
        }
    }

    #[test]
    fn what_the_example_has_commented_out_is_the_default() {
        let mut compared = 0;
        for (scope, name, value, _) in in_example().into_iter().filter(|(.., commented)| *commented) {
            let setting = of(scope).find(|setting| setting.name() == name).unwrap();
            match setting.fallback() {
                Fallback::Is(default) if name != "headers" => assert_eq!(value, default, "{name}"),
                _ => continue,
            }
            compared += 1;
        }
        assert!(compared >= 18, "{compared}");
    }

    #[test]
    fn what_the_example_has_commented_out_can_be_put_in() {
        let is_setting =
            |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(name, _)| !name.contains(' '));
        let lines = EXAMPLE.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line));
        let example = Example(lines.collect::<Vec<_>>().join("\n"));
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        let loaded = load(Path::new("config.toml"), &example, now).unwrap();
        assert_eq!(loaded.warnings, []);
        assert!(loaded.config.sources[0].request.headers["authorization"].is_sensitive());
        assert!(matches!(loaded.config.upstreams["metno"].credentials, Credentials::Header(..)));
    }

    /// Name, tables and fixed default of each setting that docs/config.md lists.
    fn documented() -> BTreeSet<(String, String, Option<String>)> {
        let code = |cell: &str| cell.strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        rows.filter_map(|row| {
            let [name, tables, default, _] = row.splitn(4, " | ").collect::<Vec<_>>().try_into().ok()?;
            Some((code(name)?, tables.to_owned(), code(default)))
        })
        .collect()
    }

    #[test]
    fn the_page_lists_every_setting_with_its_tables_and_its_default_and_no_other() {
        let known = ALL.iter().map(|setting| {
            let tables: Vec<_> = setting.scopes().iter().map(|scope| format!("{scope:?}").to_lowercase()).collect();
            let default = match setting.fallback() {
                Fallback::Is(default) => Some(default.to_owned()),
                Fallback::Computed => None,
            };
            (setting.name().to_owned(), tables.join(", "), default)
        });
        assert_eq!(documented(), known.collect());
    }

    #[test]
    fn every_default_is_one_that_could_be_written() {
        let example = Example(String::new());
        let mut reader = Reader::new("", "", &example, "2026-03-01T12:00:00Z".parse().unwrap());
        for setting in ALL {
            if let Fallback::Is(default) = setting.fallback() {
                let node = toml::de::DeValue::parse(default).unwrap();
                setting.check(&mut reader, Value { path: setting.name(), shows: Shows::Value, node: &node });
            }
        }
        assert_eq!(reader.errors, []);
    }
}
