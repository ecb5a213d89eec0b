//! One request to a token endpoint (RFC 6749 §4.4.2).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderValue, header};
use reqwest::{Client, Method, Request, StatusCode};
use secrecy::ExposeSecret;
use url::form_urlencoded;

use super::super::{body, trouble};
use super::answer::{self, Given};
use crate::config::{OAuth2, SendsSecret};

/// The longest that a token request may take: less than [`LONGEST_WAIT`](crate::upstream::LONGEST_WAIT), so that who waits
/// for it can still send.
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(8);

/// The largest answer that is read.
const LARGEST_ANSWER: u64 = 64 * 1024;

/// Where an upstream's tokens are asked for.
pub(super) struct Endpoint {
    /// The upstream's name.
    pub upstream: String,
    pub settings: OAuth2,
    /// Follows no redirects, which could lead the secret astray.
    pub client: Client,
    /// How long it may take.
    pub timeout: Duration,
}

/// Why the endpoint gave no token.
pub(super) struct Refusal {
    /// A sentence that repeats nothing of the answer.
    pub detail: String,
    /// The answer's fields, which may say when to ask again.
    pub headers: HeaderMap,
}

impl Endpoint {
    /// Asks for a token.
    pub(super) async fn ask(&self) -> Result<Given, Refusal> {
        let answered = tokio::time::timeout(self.timeout, self.exchange()).await;
        answered.unwrap_or_else(|_| {
            let timeout = humantime::format_duration(self.timeout);
            Err(Refusal { detail: format!("it did not answer within {timeout}"), headers: HeaderMap::new() })
        })
    }

    async fn exchange(&self) -> Result<Given, Refusal> {
        let is_tls = self.settings.token_url.scheme() == "https";
        let sending = self.client.execute(self.request());
        let mut response = sending.await.map_err(|error| {
            let detail = trouble::without_answer(error, is_tls).detail;
            Refusal { detail, headers: HeaderMap::new() }
        })?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let refused = |detail| Refusal { detail, headers: headers.clone() };
        let body = body::read(&mut response, LARGEST_ANSWER).await.map_err(|failure| refused(failure.detail))?;
        if status != StatusCode::OK {
            let named = answer::named_error(&body).map(|error| format!(", {error}")).unwrap_or_default();
            return Err(refused(format!("it answers with status {}{named}", status.as_u16())));
        }
        answer::given(&body).map_err(|why| refused(why.to_owned()))
    }

    fn request(&self) -> Request {
        let settings = &self.settings;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let optional = [("scope", &settings.scope), ("audience", &settings.audience)];
        form.extend_pairs(optional.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))));
        let mut request = Request::new(Method::POST, settings.token_url.clone());
        match settings.sends {
            SendsSecret::InBody => {
                form.append_pair("client_id", &settings.client_id);
                form.append_pair("client_secret", settings.client_secret.expose_secret());
            }
            SendsSecret::InHeader => _ = request.headers_mut().insert(header::AUTHORIZATION, basic(settings)),
        }
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("headpond/", env!("CARGO_PKG_VERSION"))));
        *request.body_mut() = Some(form.finish().into());
        request
    }
}

/// Id and secret, form-encoded each before they are joined (§2.3.1).
fn basic(settings: &OAuth2) -> HeaderValue {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(&settings.client_id), encoded(settings.client_secret.expose_secret()));
    // base64 is always a field's value.
    let mut value =
        HeaderValue::from_str(&format!("Basic {}", BASE64.encode(pair))).unwrap_or(HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}
