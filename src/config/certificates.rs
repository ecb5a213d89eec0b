//! Certificates and keys that are read from PEM files.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret, SecretString};
use x509_cert::der::Decode;
use x509_cert::time::Validity;

use super::fields::Fields;
use super::reader::{Reader, Shows, Spot};
use super::value::{Value, Wants};

/// What this process shows upstreams that want to know who calls.
#[derive(Clone)]
pub struct ClientCertificate {
    /// Its certificates, its own first, and their private key, as PEM.
    pub pem: SecretString,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.pem.expose_secret() == other.pem.expose_secret()
    }
}

/// Reads a file of certificate authorities. One that has expired is warned of; an error if all have.
pub(super) fn authorities(
    reader: &mut Reader<'_>,
    value: Value<'_>,
    wants: &Wants,
) -> Option<Vec<CertificateDer<'static>>> {
    let certificates = certificates(reader, value, wants)?;
    let at = value.spot();
    let mut trusted = rustls::RootCertStore::empty();
    for certificate in &certificates {
        if let Err(error) = trusted.add(certificate.clone()) {
            reader.error(&at, format!("has a certificate that can't be trusted: {error}"), "");
            return None;
        }
    }
    let out_of_date: Vec<_> = certificates.iter().filter_map(|one| untimely(one, reader.now)).collect();
    match out_of_date.as_slice() {
        [] => {}
        [first, ..] if out_of_date.len() == certificates.len() => {
            reader.error(&at, format!("no certificate in it is valid now: {first}"), "renew it");
            return None;
        }
        [first, ..] => {
            reader.warn(&at, format!("a certificate in it is not valid now: {first}"), "renew it, or remove it");
        }
    }
    Some(certificates)
}

/// Reads `{ certificate = …, key = … }`.
pub(super) fn client(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<ClientCertificate> {
    let fields = Fields::open(reader, value, wants, &["certificate", "key"])?;
    let mut at = value.spot();
    let chain = fields.required(reader, "certificate", |reader, value| {
        at = value.spot();
        let wants = Wants { noun: "the path of a PEM file", example: "\"/etc/headpond/client.pem\"" };
        let chain = certificates(reader, value, &wants)?;
        if let Some(why) = chain.first().and_then(|own| untimely(own, reader.now)) {
            reader.error(&at, why, "renew it");
            return None;
        }
        Some(chain)
    });
    let key = fields.required(reader, "key", private_key);
    let (chain, key) = (chain?, key?);
    // It is only tried here; the client makes its own of the PEM.
    if let Err(error) = CertifiedKey::from_der(chain.clone(), key.clone_key(), &ring::default_provider()) {
        let problem = format!("certificate and key can't be used together: {error}");
        reader.error(&at, problem, "name the key that the certificate was made for");
        return None;
    }
    let label = match &key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let chain = chain.iter().map(|certificate| as_pem("CERTIFICATE", certificate));
    Some(ClientCertificate { pem: chain.chain([as_pem(label, key.secret_der())]).collect::<String>().into() })
}

fn as_pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
}

fn certificates(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<Vec<CertificateDer<'static>>> {
    let (at, bytes) = file(reader, value, wants)?;
    let read: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => {
            reader.error(&at, "has no certificate in PEM", "it begins with -----BEGIN CERTIFICATE-----");
            None
        }
        Ok(certificates) => Some(certificates),
        Err(error) => {
            reader.error(&at, format!("is not readable as PEM: {error}"), "");
            None
        }
    }
}

fn private_key(reader: &mut Reader<'_>, value: Value<'_>) -> Option<PrivateKeyDer<'static>> {
    let wants = Wants { noun: "the path of a PEM file", example: "\"/etc/headpond/client.key\"" };
    let (at, bytes) = file(reader, value, &wants)?;
    // What the parser says could quote the file.
    let Ok(key) = PrivateKeyDer::from_pem_slice(&bytes) else {
        let problem = "has no private key in PEM that can be read without a passphrase";
        reader.error(&at, problem, "it begins with -----BEGIN PRIVATE KEY-----, or the same with EC or RSA");
        return None;
    };
    Some(key)
}

fn file(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<(Spot, Vec<u8>)> {
    // The path is no secret, whatever is in the file.
    let value = Value { shows: Shows::Value, ..value };
    let path = value.text(reader, wants)?;
    match reader.environment.file(Path::new(&path.text)) {
        Ok(bytes) => Some((value.spot(), bytes)),
        Err(error) => {
            reader.error(&value.spot(), format!("can't be read: {error}"), wants.remedy());
            None
        }
    }
}

/// What is wrong with the time of a certificate, if anything is.
fn untimely(certificate: &CertificateDer<'_>, now: DateTime<Utc>) -> Option<String> {
    let parsed = match x509_cert::Certificate::from_der(certificate) {
        Ok(parsed) => parsed,
        Err(error) => return Some(format!("the certificate can't be read: {error}")),
    };
    let Validity { not_before, not_after, .. } = parsed.tbs_certificate().validity();
    let time = |at: &x509_cert::time::Time| DateTime::<Utc>::from(at.to_system_time());
    let (from, to) = (time(not_before), time(not_after));
    if now > to {
        Some(format!("the certificate expired at {}", to.to_rfc3339()))
    } else if now < from {
        Some(format!("the certificate is valid only from {} on", from.to_rfc3339()))
    } else {
        None
    }
}
