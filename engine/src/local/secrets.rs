//! Finds the secrets that a playbook names.

use super::reading;
use crate::{
    error::{ErrorClass, StepError},
    secret::{SHORTEST, SecretSource, Secrets},
};
use std::{io::Read, os::unix::fs::MetadataExt, path::Path};
use zeroize::Zeroizing;

/// The largest file of a secret, in bytes.
const LARGEST: u64 = 64 * 1024;

/// Looks for each. One that is not found is an error only where it is needed.
#[must_use]
pub fn find<'a>(sources: impl IntoIterator<Item = (&'a String, &'a SecretSource)>) -> Secrets {
    Secrets::of(sources.into_iter().map(|(name, source)| (name.clone(), look(name, source))).collect())
}

fn look(name: &str, source: &SecretSource) -> Result<Zeroizing<String>, StepError> {
    let missing = |why: String, hint: String| {
        StepError::new(ErrorClass::Invalid, format!("secret `{name}`: {why}")).hint(hint)
    };
    let found = match source {
        SecretSource::Env(variable) => match std::env::var(variable) {
            Ok(secret) => Zeroizing::new(secret),
            Err(std::env::VarError::NotPresent) => {
                return Err(missing(
                    format!("the variable `{variable}` is not set"),
                    format!("export {variable}=…, best from a file: {variable}=$(cat FILE)"),
                ));
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(missing(
                    format!("the variable `{variable}` is no UTF-8"),
                    "encode it as base64".into(),
                ));
            }
        },
        SecretSource::File(path) => read(name, Path::new(path), true)?,
        SecretSource::Credential(credential) => {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                missing(
                    "this process was given no systemd credentials".into(),
                    format!("in the unit: LoadCredential={credential}:FILE"),
                )
            })?;
            if credential.contains('/') || credential.starts_with('.') {
                return Err(missing(
                    format!("`{credential}` is no name of a credential"),
                    "systemd-creds list".into(),
                ));
            }
            // Systemd keeps them so that only the unit's user can read them, whatever their mode says.
            read(name, &Path::new(&folder).join(credential), false)?
        }
    };
    if found.is_empty() {
        return Err(missing(format!("the {source} is empty"), "put the secret there".into()));
    }
    if found.len() < SHORTEST {
        return Err(missing(
            format!(
                "the {source} has {} bytes, expected at least {SHORTEST}: a shorter secret could not be masked",
                found.len()
            ),
            "choose a longer secret, or write the value into the playbook if it is none".into(),
        ));
    }
    Ok(found)
}

fn read(name: &str, path: &Path, private: bool) -> Result<Zeroizing<String>, StepError> {
    let shown = path.display();
    let cannot = |error: std::io::Error| {
        let mut error = StepError::io(format!("read `{shown}`"), &error);
        error.message = format!("secret `{name}`: {}", error.message);
        error
    };
    let mut file = reading::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let refused = |why: String, hint: String| {
        StepError::new(ErrorClass::Denied, format!("secret `{name}`: {why}")).hint(hint)
    };
    if private && metadata.mode() & 0o077 != 0 {
        return Err(refused(
            format!(
                "`{shown}` can be read by others: its mode is {:04o}, expected 0600",
                metadata.mode() & 0o7777
            ),
            format!("chmod 600 {shown}"),
        ));
    }
    if metadata.len() > LARGEST {
        return Err(refused(
            format!("`{shown}` is larger than {LARGEST} bytes"),
            "name a file that holds the secret alone".into(),
        ));
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
    // No more than that, also if it grows meanwhile.
    Read::by_ref(&mut file).take(LARGEST).read_to_string(&mut text).map_err(cannot)?;
    let kept =
        text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text).len();
    text.truncate(kept);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::find;
    use crate::secret::{SecretSource, mark};

    #[test]
    fn a_secret_too_short_to_be_masked_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("pin");
        let name = "pin".to_owned();
        for (text, taken) in [("123\n", false), ("1234\n", true)] {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
            let found = find([(&name, &SecretSource::File(path.display().to_string()))]);
            assert_eq!(found.reveal(&mark("pin")).is_ok(), taken, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        std::fs::write(&path, "abcdef\n").expect("written");
        let source = SecretSource::File(path.display().to_string());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
        let name = "token".to_owned();
        let error = find([(&name, &source)]).reveal(&mark("token")).err().expect("refused");
        assert!(error.message.contains("mode is 0640"), "{}", error.message);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        let found = find([(&name, &source)]);
        assert_eq!(found.reveal(&mark("token")).expect("found").expose(), "abcdef");
    }
}
