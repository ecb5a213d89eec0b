//! Sends what is in the change feed to webhooks.
//!
//! One process sends for a webhook at a time: whoever has its lease, which it renews with each message. What a process was
//! sending when it was killed, another sends again; its receiver knows it by its id.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Refresher;
use crate::clock::Clock;
use crate::config::Webhook;
use crate::domain::change::{Change, ChangeKind};
use crate::domain::content::is_json;
use crate::domain::time::later;
use crate::domain::webhook::{Attempts, Verdict, judge};
use crate::store::{Bodies, Changes, Enqueued, Listed, Outbox, Sent, Store, StoreError, ToSend};
use crate::telemetry::metrics;
use crate::upstream::{Courier, Message};

/// How long to wait before looking again whether another process still sends, the store is back, or what waits was resumed.
const AGAIN: Duration = Duration::from_secs(15);
/// How long a lease lasts beyond a message's timeout.
const GRACE: Duration = Duration::from_secs(15);
/// Changes that are read at once.
const PAGE: u32 = 100;
/// The largest body that is sent along.
const LARGEST: u64 = 1 << 20;

/// Who sends for a webhook.
#[derive(Debug)]
pub struct Sender {
    /// Where the feed is.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The name under which it is leased.
    pub worker: String,
    /// What is sent, and where.
    pub webhook: Webhook,
    /// How.
    pub courier: Courier,
}

/// What a sender found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something was sent, or passed over: look again at once.
    Done,
    /// Nothing before then; `None` is before the feed grows.
    Idle(Option<DateTime<Utc>>),
    /// Another process sends, or the webhook is dead.
    NotOurs,
}

/// Sends for all webhooks of the configuration that holds, until `stop` is cancelled.
pub async fn keep(mut refreshers: watch::Receiver<Arc<Refresher>>, stop: CancellationToken) {
    loop {
        let refresher = Arc::clone(&refreshers.borrow_and_update());
        let round = stop.child_token();
        let mut sending = JoinSet::new();
        match Courier::new() {
            Ok(courier) => {
                for webhook in &refresher.roster.webhooks {
                    let sender = Sender {
                        store: Arc::clone(&refresher.store),
                        clock: Arc::clone(&refresher.clock),
                        worker: refresher.worker.clone(),
                        webhook: webhook.clone(),
                        courier: courier.clone(),
                    };
                    sending.spawn(send(sender, Arc::clone(&refresher), round.clone()));
                }
            }
            Err(error) => tracing::error!(%error, "no webhook can be sent"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            changed = refreshers.changed() => if changed.is_err() { stop.cancelled().await },
        }
        // What is being sent is sent to its end, so that nothing is sent twice because of a reload.
        round.cancel();
        while sending.join_next().await.is_some() {}
        if stop.is_cancelled() {
            return;
        }
    }
}

async fn send(sender: Sender, refresher: Arc<Refresher>, stop: CancellationToken) {
    let mut news = refresher.announcer.listen_to_all();
    while !stop.is_cancelled() {
        let until = match sender.step().await {
            Ok(Step::Done) => continue,
            Ok(Step::Idle(until)) => until.map(|until| until.min(later(sender.clock.now(), AGAIN))),
            Ok(Step::NotOurs) => Some(later(sender.clock.now(), AGAIN)),
            Err(error) => {
                tracing::warn!(%error, webhook = sender.webhook.name, "could not see what is to be sent");
                Some(later(sender.clock.now(), AGAIN))
            }
        };
        let waits = async {
            match until {
                Some(at) => sender.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = waits => {}
            () = news.next() => {}
        }
    }
}

impl Sender {
    /// Sends one message, if there is one and this process may.
    ///
    /// # Errors
    /// When the store fails. What was sent then is sent again.
    pub async fn step(&self) -> Result<Step, StoreError> {
        let now = self.clock.now();
        let lease = later(now, self.webhook.timeout + GRACE);
        let outbox = match self.store.webhook_outbox(&self.webhook.name, &self.worker, lease).await? {
            ToSend::Nothing(until) => return Ok(Step::Idle(until)),
            ToSend::NotOurs => return Ok(Step::NotOurs),
            ToSend::Outbox(outbox) => outbox,
        };
        if let Some(due) = &outbox.due {
            let message = self.message(due.change.as_ref(), due.id).await?;
            let sent = self.deliver(&message, due.attempts, outbox.failures).await;
            let sent = match sent {
                Delivery::Taken => Sent { taken: Some(due.id), delivered: 1, ..Sent::default() },
                Delivery::Not { attempts, at, sent } => Sent { put_off: Some((due.id, attempts, at)), ..sent },
            };
            return self.settle(sent).await;
        }
        self.follow(&outbox).await
    }

    /// Goes on in the feed to the first change that is to be sent, and sends it.
    async fn follow(&self, outbox: &Outbox) -> Result<Step, StoreError> {
        let (changes, end) = match self.store.changes(Some(outbox.cursor), PAGE).await? {
            Changes::Page { changes, next } => (changes, next),
            Changes::Unknown => {
                tracing::warn!(
                    webhook = self.webhook.name,
                    "the feed is not kept back to where it was: it is told to resync"
                );
                let resync = Enqueued { change: None, due: Some((None, self.clock.now())) };
                let cursor = Some(self.store.feed_end().await?);
                return self.settle(Sent { cursor, enqueued: vec![resync], ..Sent::default() }).await;
            }
        };
        let mut behind = Vec::new();
        for change in changes {
            if !self.wants(&change) {
                continue;
            }
            if outbox.failing.contains(&(change.source.clone(), change.key.clone())) {
                behind.push(Enqueued { change: Some(change), due: None });
                continue;
            }
            let cursor = Some(change.cursor);
            let message = self.message_of(&change).await?;
            let sent = match self.deliver(&message, None, outbox.failures).await {
                Delivery::Taken => Sent { cursor, delivered: 1, ..Sent::default() },
                Delivery::Not { attempts, at, sent } => {
                    behind.push(Enqueued { change: Some(change), due: Some((Some(attempts), at)) });
                    Sent { cursor, ..sent }
                }
            };
            return self.settle(Sent { enqueued: behind, ..sent }).await;
        }
        // Nothing of these is for it. The failures in a row are as they were.
        let failures = outbox.failures;
        self.settle(Sent { cursor: Some(end), enqueued: behind, failures, ..Sent::default() }).await
    }

    fn wants(&self, change: &Change) -> bool {
        let has_source = self.webhook.sources.as_ref().is_none_or(|sources| sources.contains(&change.source));
        has_source && self.webhook.kinds.as_ref().is_none_or(|kinds| kinds.contains(&change.kind))
    }

    async fn settle(&self, sent: Sent) -> Result<Step, StoreError> {
        let is_ours = self.store.webhook_sent(&self.webhook.name, &self.worker, &sent).await?;
        if is_ours && sent.is_dead {
            let why = sent.error.as_deref().unwrap_or_default();
            tracing::error!(
                webhook = self.webhook.name,
                why,
                "nothing is sent to it any more until `headpond webhooks resume` is run"
            );
        }
        Ok(if is_ours { Step::Done } else { Step::NotOurs })
    }

    /// Sends a message.
    async fn deliver(&self, message: &Message, before: Option<Attempts>, failures: u32) -> Delivery {
        let name = self.webhook.name.as_str();
        let answer = self.courier.send(&self.webhook, message, self.clock.now()).await;
        let now = self.clock.now();
        let verdict = judge(answer, before, failures, self.webhook.give_up_after, (now, fastrand::f64()));
        match verdict {
            Verdict::Delivered => {
                metrics::webhook(name, "delivered");
                Delivery::Taken
            }
            Verdict::Again { attempts, at, failures, paused_until, why } => {
                metrics::webhook(name, "failed");
                tracing::warn!(webhook = name, why, attempts = attempts.count, "a message was not taken");
                let sent = Sent { failures, paused_until, error: Some(why), ..Sent::default() };
                Delivery::Not { attempts, at, sent }
            }
            Verdict::Dead { attempts, why } => {
                metrics::webhook(name, "dead");
                let sent = Sent { failures, error: Some(why), is_dead: true, ..Sent::default() };
                Delivery::Not { attempts, at: now, sent }
            }
        }
    }

    /// What tells of something in the queue, by its row.
    async fn message(&self, change: Option<&Change>, row: i64) -> Result<Message, StoreError> {
        let Some(change) = change else {
            let body = Payload { kind: "resync".into(), timestamp: self.clock.now(), data: None };
            return Ok(Message { id: format!("resync-{row}"), body: text(&body)? });
        };
        self.message_of(change).await
    }

    async fn message_of(&self, change: &Change) -> Result<Message, StoreError> {
        let kind = format!("resource.{}", change.kind.as_str());
        let item = if self.webhook.includes_data { Some(self.item(change).await?) } else { None };
        let body = Payload { kind, timestamp: change.at, data: Some(Data { change, item }) };
        Ok(Message { id: change.cursor.to_string(), body: text(&body)? })
    }

    /// The resource as it is now, which can be newer than the change; `None` when there is none any more.
    async fn item(&self, change: &Change) -> Result<Option<Item>, StoreError> {
        if matches!(change.kind, ChangeKind::Gone | ChangeKind::Erased) {
            return Ok(None);
        }
        let keys = [change.key.clone()];
        let batch = self.store.batch(&change.source, &keys, Bodies::UpTo(LARGEST)).await?;
        batch.and_then(|batch| batch.items.into_iter().next()).map(|listed| Item::of(&listed)).transpose()
    }
}

/// How a delivery went.
enum Delivery {
    Taken,
    Not { attempts: Attempts, at: DateTime<Utc>, sent: Sent },
}

/// A message's body, as the Standard Webhooks specification has it.
#[derive(Serialize)]
struct Payload<'a> {
    #[serde(rename = "type")]
    kind: String,
    timestamp: DateTime<Utc>,
    data: Option<Data<'a>>,
}

#[derive(Serialize)]
#[expect(clippy::option_option, reason = "not shown and not there are two things")]
struct Data<'a> {
    #[serde(flatten)]
    change: &'a Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<Option<Item>>,
}

/// A resource with its content.
#[derive(Serialize)]
struct Item {
    version: u64,
    etag: Option<String>,
    content_type: Option<String>,
    /// JSON as it came, other text as a string, other bytes as `{"base64": "…"}`.
    data: Option<Box<RawValue>>,
}

impl Item {
    fn of(listed: &Listed) -> Result<Self, StoreError> {
        let content = listed.content.as_ref();
        let content_type = content.and_then(|content| content.headers.get(http::header::CONTENT_TYPE));
        let body = content.and_then(|content| content.body.as_deref());
        let data = match body.map(std::str::from_utf8) {
            None => None,
            Some(Err(_)) => {
                let base64 = STANDARD.encode(body.unwrap_or_default());
                Some(to_raw_value(&serde_json::json!({ "base64": base64 })).map_err(unserializable)?)
            }
            Some(Ok(text)) => {
                let calls_itself_json = content_type.is_some_and(|value| is_json(value.as_bytes()));
                let json = calls_itself_json.then(|| RawValue::from_string(text.to_owned()).ok()).flatten();
                Some(json.map_or_else(|| to_raw_value(text), Ok).map_err(unserializable)?)
            }
        };
        Ok(Self {
            version: listed.version,
            etag: content.map(|content| format!("\"{}\"", content.etag)),
            content_type: content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            data,
        })
    }
}

fn text(body: &Payload<'_>) -> Result<String, StoreError> {
    serde_json::to_string(body).map_err(unserializable)
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` gives it away")]
fn unserializable(error: serde_json::Error) -> StoreError {
    StoreError::Rejected(format!("a message can't be written: {error}"))
}
