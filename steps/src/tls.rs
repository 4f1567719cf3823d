//! Whom TLS connections trust: the machine's own certificate authorities, and one that a playbook names.

use engine::{ErrorClass, StepError, local::reading};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{path::Path, sync::Arc};

/// The largest file with certificates, in bytes; all that distributions trust takes a quarter of it.
const LARGEST: u64 = 1 << 20;

/// The certificates that are trusted: those in the PEM file `ca` alone, if it is named, else the machine's.
fn roots(ca: Option<&str>) -> Result<Vec<CertificateDer<'static>>, StepError> {
    let Some(path) = ca else {
        let found = rustls_native_certs::load_native_certs();
        // A machine without any is no reason to fail before it is known that one is needed.
        return Ok(found.certs);
    };
    let read = reading::bytes(Path::new(path), LARGEST);
    let pem = read.map_err(|error| StepError::io(format!("read `{path}`"), &error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(StepError::new(ErrorClass::Invalid, format!("`{path}` holds no PEM certificate"))
            .hint(format!("openssl x509 -in {path} -noout -subject"))),
    }
}

/// A TLS client that trusts [`roots`].
pub(crate) fn client(ca: Option<&str>) -> Result<ClientConfig, StepError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots(ca)?);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| StepError::internal(error.to_string()))?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}
