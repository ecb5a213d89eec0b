//! Sends messages to the endpoints of webhooks.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::header;
use reqwest::Client;

use super::client::{BadClient, Clients};
use crate::config::{Transport, Webhook};
use crate::domain::retry_after::retry_after;
use crate::domain::webhook::Answer;

/// The longest Retry-After of an endpoint that is obeyed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The same whenever it is sent again.
    pub id: String,
    /// A JSON object.
    pub body: String,
}

/// Sends messages. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Courier(Client);

impl Courier {
    /// One with connections of its own, which follow no redirects: whoever is redirected to was not named.
    ///
    /// # Errors
    /// When the network library can't be set up.
    pub fn new() -> Result<Self, BadClient> {
        Ok(Self(Clients::new(&Transport::default())?.own))
    }

    /// Sends a message, signed by the Standard Webhooks specification as of `now`, and returns how it was answered.
    pub async fn send(&self, webhook: &Webhook, message: &Message, now: DateTime<Utc>) -> Answer {
        let timestamp = now.timestamp();
        let request = self
            .0
            .post(webhook.url.clone())
            .timeout(webhook.timeout)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("headpond/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", webhook.secret.sign(&message.id, timestamp, &message.body))
            .body(message.body.clone());
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_timeout() => {
                return refused(format!("no answer within {}", humantime::format_duration(webhook.timeout)));
            }
            Err(error) if error.is_connect() => return refused("no connection could be made".into()),
            // The library's words may have the URL, which may have a credential in it.
            Err(error) => return refused(error.without_url().to_string()),
        };
        let status = answer.status();
        match status.as_u16() {
            200..300 => Answer::Taken,
            410 => Answer::Unsubscribed,
            300..400 => refused(format!("it answered {status}, and redirects are not followed: set its url anew")),
            _ => {
                let retry_at = retry_after(answer.headers(), now, LONGEST_RETRY_AFTER);
                Answer::Refused { why: format!("it answered {status}"), retry_at }
            }
        }
    }
}

fn refused(why: String) -> Answer {
    Answer::Refused { why, retry_at: None }
}
