//! The sequences, from the claim to the commit: real stores, and upstreams on loopback.

mod allowances;
mod batches;
mod commits;
mod generations;
mod lanes;
mod later;
mod letter;
mod outages;
mod pauses;
mod posts;
mod presets;
mod stopping;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use headpond::announce::{Announcement, Announcer};
use headpond::config::{self, Config, ProcessEnvironment};
use headpond::domain::resource::Params;
use headpond::refresh::committer::Committer;
use headpond::refresh::follow::follow;
use headpond::refresh::lane::Lane;
use headpond::refresh::tally::{Counts, Tally};
use headpond::refresh::task::{Task, Until};
use headpond::refresh::{Refresher, Roster};
use headpond::store::{Authority, Registered, Selection, SourceSpec, Store};
use headpond::upstream::{Fetchers, Quiet};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::raw_server::RawServer;
use crate::support::store::{TestStore, key, start};

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// One process's refresher, with sources from a configuration.
pub struct Process<'a> {
    test: &'a TestStore,
    pub refresher: Arc<Refresher>,
    /// The sources' ids, in the order of their names.
    pub ids: Vec<Registered>,
    pub stop: CancellationToken,
    pub abandon: CancellationToken,
}

impl<'a> Process<'a> {
    /// Registers the sources of this TOML and adds their keys.
    pub async fn with_config(test: &'a TestStore, toml: &str) -> Self {
        let config = config(toml);
        let specs = specs(&config);
        let ids = test.store.register(&specs, Authority::Owns).await.unwrap();
        for (source, ids) in config.sources.iter().zip(&ids) {
            test.store.add_keys(ids.source, &source.keys, Authority::Owns).await.unwrap();
            if source.collection.is_some() {
                test.store.open_walk(ids.source).await.unwrap();
            }
        }
        Self::on(test, Arc::clone(&test.store), &config, ids)
    }

    /// Another process with the sources of this TOML, which the first has registered.
    pub async fn beside(test: &'a TestStore, toml: &str) -> Self {
        let (config, store) = (config(toml), test.another().await);
        let ids = store.register(&specs(&config), Authority::Adds).await.unwrap();
        Self::on(test, store, &config, ids)
    }

    fn on(test: &'a TestStore, store: Arc<dyn Store>, config: &Config, ids: Vec<Registered>) -> Self {
        // An error means that another test has installed it.
        _ = rustls::crypto::ring::default_provider().install_default();
        let refresher = Refresher {
            store,
            clock: Arc::clone(&test.clock) as _,
            fetchers: Fetchers::of(config, &(Arc::clone(&test.clock) as _)).unwrap(),
            announcer: Announcer::new(),
            roster: Roster::new(config, &ids),
            worker: "test".into(),
            quiet: Quiet::default(),
        };
        let (stop, abandon) = Default::default();
        Self { test, refresher: Arc::new(refresher), ids, stop, abandon }
    }

    /// One source, `users`, that is refreshed every hour; `more` goes into it.
    async fn with_users(test: &'a TestStore, origin: &str, keys: &[&str], more: &str) -> Self {
        Self::with_config(test, &users(origin, keys, more)).await
    }

    /// Starts a lane for each upstream. They go on as `until` says, or until `stop` is cancelled.
    pub fn start(&self, until: Until) -> JoinHandle<Counts> {
        let refresher = &self.refresher;
        let (committer, commits) = Committer::new(refresher, self.abandon.clone());
        let tally = Arc::<Tally>::default();
        let mut parts = tokio::task::JoinSet::new();
        parts.spawn(commits);
        for upstream in refresher.roster.upstreams() {
            let task = Task { which: Selection::All, due_by: None, until, patience: PATIENCE };
            let tally = Some(Arc::clone(&tally));
            let lane = Lane::new(Arc::clone(refresher), committer.clone(), upstream.clone(), task, tally);
            parts.spawn(lane.run(self.stop.clone(), self.abandon.clone()).map(Result::unwrap));
        }
        tokio::spawn(async move {
            drop(committer);
            parts.join_all().await;
            tally.counts()
        })
    }

    /// Hears what other processes do, until `stop` is cancelled.
    pub fn follow(&self) {
        let Refresher { store, announcer, .. } = self.refresher.as_ref();
        tokio::spawn(follow(Arc::clone(store), announcer.clone(), self.stop.clone()));
    }

    /// Refreshes until nothing is due.
    pub async fn refresh(&self) -> Counts {
        soon(self.start(Until::NothingIsLeft)).await.unwrap()
    }

    /// Makes a key of the first source due, as whoever asks for it does.
    async fn want(&self, name: &str) {
        let found = self.test.store.find(self.ids[0].source, &[key(name)]).await.unwrap();
        let which = Selection::Resources(found.into_iter().flatten().collect());
        assert_eq!(self.test.store.want(&which, self.test.now()).await.unwrap(), 1);
        self.refresher.announcer.announce(Announcement::LookAround);
    }

    /// Makes all due.
    pub async fn want_all(&self) {
        self.test.store.want(&Selection::All, self.test.now()).await.unwrap();
    }

    /// Adds a key to the first source that no configuration lists.
    async fn add(&self, name: &str) {
        self.test.store.add_keys(self.ids[0].source, &[(key(name), Params::new())], Authority::Owns).await.unwrap();
    }

    /// What is stored of a key of `users`.
    async fn body(&self, name: &str) -> String {
        let current = self.test.current("users", name).await;
        String::from_utf8(current.content.expect("content").body.to_vec()).unwrap()
    }
}

/// The TOML of one source, `users`, that is refreshed every hour, without a limit that a test could meet.
pub fn users(origin: &str, keys: &[&str], more: &str) -> String {
    format!(
        "[defaults]\nmax_concurrent_requests = 100\nrefresh_every = \"1h\"\n\
         [sources.users]\nurl = \"{origin}/users/{{key}}\"\nkeys = {keys:?}\n{more}\n"
    )
}

fn specs(config: &Config) -> Vec<SourceSpec> {
    config.sources.iter().map(|source| SourceSpec::of(source, &config.upstreams[&source.upstream])).collect()
}

/// What this TOML says.
pub fn config(toml: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("headpond.toml");
    std::fs::write(&file, toml).unwrap();
    config::load(&file, &ProcessEnvironment, start()).unwrap_or_else(|errors| panic!("{errors}")).config
}

/// What must come, and does before long.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not come")
}

/// wiremock on a port of its own: its pooled ports would meet connections that other tests' clients keep alive.
pub async fn mock_server() -> MockServer {
    MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await
}

/// Answers requests for a key with this text, from now on.
async fn answer(server: &MockServer, key: &str, body: &str) {
    let found = ResponseTemplate::new(200).set_body_string(body);
    Mock::given(method("GET")).and(path(format!("/users/{key}"))).respond_with(found).mount(server).await;
}

/// The paths that were asked for, in order.
pub async fn asked(server: &MockServer) -> Vec<String> {
    let requests = server.received_requests().await.unwrap();
    requests.iter().map(|request| request.url.path().to_owned()).collect()
}

/// An upstream that answers each request only when it is told to.
pub struct HeldServer {
    server: RawServer,
    arrivals: mpsc::UnboundedReceiver<()>,
    answers: watch::Sender<usize>,
}

impl HeldServer {
    pub async fn start() -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let answers = watch::Sender::new(0);
        let told = answers.clone();
        let server = RawServer::start(move |mut connection| {
            let (arrived, mut told) = (arrived.clone(), told.subscribe());
            async move {
                connection.request().await;
                let nth = connection.number + 1;
                _ = arrived.send(());
                if told.wait_for(|told| *told >= nth).await.is_ok() {
                    let body = format!("answer {nth}");
                    let head =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                    connection.say((head + &body).as_bytes()).await;
                }
            }
        })
        .await;
        Self { server, arrivals, answers }
    }

    pub fn origin(&self) -> String {
        self.server.url("").as_str().trim_end_matches('/').to_owned()
    }

    /// Returns when the next request has come.
    pub async fn arrival(&mut self) {
        soon(self.arrivals.recv()).await.expect("the server runs");
    }

    /// Lets the first so many requests be answered.
    pub fn answer(&self, first: usize) {
        self.answers.send_replace(first);
    }

    pub fn requests(&self) -> usize {
        self.server.requests().len()
    }

    /// The User-Agents of the requests, in order.
    pub fn agents(&self) -> Vec<String> {
        let requests = self.server.requests();
        let heads = requests.iter().map(|head| String::from_utf8_lossy(head).to_ascii_lowercase());
        heads
            .map(|head| head.lines().find_map(|line| line.strip_prefix("user-agent: ").map(str::to_owned)).unwrap())
            .collect()
    }
}
