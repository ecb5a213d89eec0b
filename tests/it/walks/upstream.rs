//! An upstream that lists users in pages, and does what a test tells it to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use headpond::domain::snapshot::ContentHash;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::refresh::mock_server;

/// The users, and what becomes of requests.
pub struct Upstream {
    server: MockServer,
    state: Arc<Mutex<State>>,
}

/// How pages lead on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    LinkHeader,
    JsonLink,
    Cursor,
    PageNumber,
}

impl Way {
    /// As the configuration says it.
    pub fn paginate(self) -> &'static str {
        match self {
            Self::LinkHeader => "{ by = \"link_header\" }",
            Self::JsonLink => "{ by = \"json_link\", next = \"$.next\" }",
            Self::Cursor => "{ by = \"cursor\", param = \"after\", next = \"$.after\" }",
            Self::PageNumber => "{ by = \"page_number\", param = \"page\" }",
        }
    }
}

/// An answer with its status.
pub type Answer = (u16, ResponseTemplate);

type Fault = Box<dyn FnMut(usize, &mut State, &Request) -> Option<Answer> + Send>;

pub struct State {
    /// Content and time of change of each user, by number.
    pub users: BTreeMap<u32, (String, i64)>,
    /// The upstream's clock, in seconds.
    pub now: i64,
    way: Way,
    size: usize,
    /// Whether pages are in the order of changes, the latest first.
    pub latest_first: bool,
    fault: Option<Fault>,
    /// The queries that were asked, and the statuses that were answered.
    asked: Vec<(String, u16)>,
}

struct Responder(Arc<Mutex<State>>);

impl Respond for Responder {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        self.0.lock().unwrap().answer(request)
    }
}

impl Upstream {
    /// With users 1 to `users`, in pages of `size`.
    pub async fn start(way: Way, users: u32, size: usize) -> Self {
        let server = mock_server().await;
        let now = 1_800_000_000;
        let users = (1..=users).map(|id| (id, (format!("user {id}"), now))).collect();
        let state = State { users, now, way, size, latest_first: false, fault: None, asked: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        Mock::given(any()).respond_with(Responder(Arc::clone(&state))).mount(&server).await;
        Self { server, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Before each answer from now on, with the number of the request from 1: what it answers instead, if anything.
    pub fn before(&self, fault: impl FnMut(usize, &mut State, &Request) -> Option<Answer> + Send + 'static) {
        let mut state = self.state();
        state.asked.clear();
        state.fault = Some(Box::new(fault));
    }

    /// No more of that.
    pub fn heal(&self) {
        let mut state = self.state();
        state.asked.clear();
        state.fault = None;
    }

    /// The statuses of the answers since [`before`](Self::before) or this was called last.
    pub fn statuses(&self) -> Vec<u16> {
        self.state().take_asked().1
    }

    pub fn origin(&self) -> String {
        self.server.uri()
    }

    /// The TOML of the collection `users` of this upstream, walked every hour; `more` goes into it.
    pub fn config(&self, more: &str) -> String {
        let (origin, paginate) = (self.origin(), self.state().way.paginate());
        format!(
            "[sources.users]\nkind = \"collection\"\nurl = \"{origin}/users?role=any\"\nitems = \"$.data[*]\"\n\
             item_key = \"$.id\"\npaginate = {paginate}\nrefresh_every = \"1h\"\nmax_delete_share = 0.5\n{more}\n"
        )
    }
}

impl State {
    pub fn change(&mut self, id: u32, content: &str) {
        self.users.insert(id, (content.into(), self.now));
    }

    /// The queries and statuses since this was called last.
    pub fn take_asked(&mut self) -> (Vec<String>, Vec<u16>) {
        std::mem::take(&mut self.asked).into_iter().unzip()
    }

    fn answer(&mut self, request: &Request) -> ResponseTemplate {
        let query = request.url.query().unwrap_or_default().to_owned();
        let number = self.asked.len() + 1;
        let fault = self.fault.take();
        let instead = fault.and_then(|mut fault| {
            let instead = fault(number, self, request);
            self.fault = Some(fault);
            instead
        });
        let (status, answer) = instead.unwrap_or_else(|| self.page(request));
        self.asked.push((query, status));
        answer
    }

    /// The page that is asked for.
    pub fn page(&self, request: &Request) -> Answer {
        let param = |name: &str| {
            request.url.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.parse::<i64>().unwrap())
        };
        let since = param("since").unwrap_or(i64::MIN);
        let mut users: Vec<_> = self.users.iter().filter(|(_, (_, at))| *at >= since).collect();
        if self.latest_first {
            users.sort_by_key(|(id, (_, at))| (-at, **id));
        }
        let (rest, after): (Vec<_>, _) = if self.way == Way::PageNumber {
            let page = usize::try_from(param("page").unwrap_or(1)).unwrap();
            (users.into_iter().skip((page - 1) * self.size).collect(), None)
        } else {
            let after = param("after").unwrap_or(0);
            let rest: Vec<_> = users.into_iter().filter(|(id, _)| i64::from(**id) > after).collect();
            let last = rest.get(self.size - 1).filter(|_| rest.len() > self.size).map(|(id, _)| **id);
            (rest, last)
        };
        let data: Vec<Value> = rest
            .into_iter()
            .take(self.size)
            .map(|(id, (content, at))| json!({ "id": id, "content": content, "at": at }))
            .collect();
        let next = after.map(|after| {
            let since = param("since").map(|since| format!("&since={since}")).unwrap_or_default();
            format!("?role=any&after={after}{since}")
        });
        let mut page = json!({ "data": data });
        let mut link = None;
        match self.way {
            Way::LinkHeader => link = next,
            Way::JsonLink => page["next"] = next.into(),
            Way::Cursor => page["after"] = after.into(),
            Way::PageNumber => {}
        }
        respond(request, &page, link)
    }
}

/// Answers a page, or 304 if it is known.
pub fn respond(request: &Request, page: &Value, link: Option<String>) -> Answer {
    let body = page.to_string();
    let etag = format!("\"{}\"", ContentHash::of(&[body.as_bytes()]));
    let is_known = request.headers.get("if-none-match").is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let status = if is_known { 304 } else { 200 };
    let answer = ResponseTemplate::new(status).insert_header("etag", etag);
    let answer = match link {
        Some(link) => answer.insert_header("link", format!("<{link}>; rel=\"next\"")),
        None => answer,
    };
    (status, if is_known { answer } else { answer.set_body_raw(body, "application/json") })
}

/// An answer of this status alone.
pub fn status(status: u16) -> Answer {
    (status, ResponseTemplate::new(status))
}
