//! Whom TLS trusts: the system's bundle, and what certs.d has for one registry (containers-certs.d(5), docker's too).

use super::{place, read, user_directory};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
const DIRECTORIES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// The first directory that there is for a host (with its port) is the one.
fn directory(host: &str) -> Option<PathBuf> {
    let roots = user_directory().map(|user| user.join("certs.d")).into_iter().chain(DIRECTORIES.map(PathBuf::from));
    // The host comes from a reference or an origin: it has no slash.
    roots.map(|root| root.join(host)).find(|path| !host.contains('/') && !host.starts_with('.') && path.is_dir())
}

fn names(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|found| found == extension));
    found.sort();
    found
}

/// Somebody put an authority there for this host: it is to be verified, also where it is this machine.
pub fn has_authorities(host: &str) -> bool {
    directory(host).is_some_and(|directory| !names(&directory, "crt").is_empty())
}

/// `host`: as certs.d names it.
pub fn tls(host: &str, is_verified: bool) -> Result<TlsConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own = directory(host);
    let client = own.as_deref().map(client).transpose()?.flatten();
    if let Some(client) = &client {
        check_client(client, &provider)?;
    }
    let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(provider).client_cert(client);
    if !is_verified {
        return Ok(builder.root_certs(RootCerts::new_with_certs(&[])).disable_verification(true).build());
    }
    let mut roots = system()?;
    for path in own.iter().flat_map(|own| names(own, "crt")) {
        roots.extend(certificates(&path)?);
    }
    Ok(builder.root_certs(RootCerts::from(roots)).build())
}

fn system() -> Result<Vec<Certificate<'static>>> {
    let bundle = place("SSL_CERT_FILE").or_else(|| BUNDLES.map(PathBuf::from).into_iter().find(|path| path.exists()));
    bundle.map_or(Ok(Vec::new()), |bundle| certificates(&bundle))
}

fn bad(path: &Path, why: &str) -> Error {
    Error::Image(format!("{}: {why}", path.display()))
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>> {
    let bytes = read(path)?.ok_or_else(|| bad(path, "it cannot be read"))?;
    parse_pem(&bytes).collect::<std::result::Result<_, _>>().map_err(|_| bad(path, "it is not in PEM format"))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let found = items(path)?.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    Ok(found.collect())
}

/// NAME.cert and NAME.key: who we are.
fn client(directory: &Path) -> Result<Option<ClientCert>> {
    let Some(chain) = names(directory, "cert").into_iter().next() else { return Ok(None) };
    let key = chain.with_extension("key");
    let found: Option<PrivateKey<'static>> = items(&key)?.into_iter().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    let found = found.ok_or_else(|| bad(&key, "there is no key in it that can be used; one with a password cannot"))?;
    Ok(Some(ClientCert::new_with_certs(&certificates(&chain)?, found)))
}

/// A pair that is none would be a panic where it is used.
fn check_client(client: &ClientCert, provider: &Arc<rustls::crypto::CryptoProvider>) -> Result<()> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let fail = || Error::Image("the client certificate in certs.d and its key are no pair".into());
    let chain = client.certs().iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
    let key = PrivateKeyDer::try_from(client.private_key().der().to_vec()).map_err(|_| fail())?;
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|_| fail())?.with_root_certificates(rustls::RootCertStore::empty());
    builder.with_client_auth_cert(chain, key).map(drop).map_err(|_| fail())
}
