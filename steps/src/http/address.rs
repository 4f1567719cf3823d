//! Addresses: what a playbook may name, and how they are told without a secret.

use engine::{ErrorClass, StepError, host::shell_word, step::Context};
use url::{Position, Url};

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) url: Url,
    /// As it is told in messages and outputs: as the playbook has it, with the marks of its secrets.
    pub(super) label: String,
}

/// Why a text is no address of a request, in words that do not quote it; none if it is one.
pub(super) fn refused(text: &str) -> Option<String> {
    parse(text).err()
}

fn parse(text: &str) -> Result<Url, String> {
    // The parser would drop line feeds and tabs and take a backslash for a slash.
    if let Some(wrong) = text.chars().find(|c| c.is_control() || *c == ' ' || *c == '\\') {
        return Err(format!("it holds `{}`: write it as %{:02X}", wrong.escape_default(), u32::from(wrong)));
    }
    let url = Url::parse(text).map_err(|error| format!("{error}: expected http://HOST:PORT/PATH"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("expected http or https, found `{}`", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or a password: give them with `basic_auth`".into());
    }
    match url.host_str() {
        None | Some("") => Err("it names no host".into()),
        Some(host) if host.starts_with('-') => Err("a host does not begin with `-`".into()),
        Some(_) => Ok(url),
    }
}

impl Address {
    /// The address that `text` names, with its secrets put in and `query` behind it.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn of<'a>(
        cx: &Context,
        text: &str,
        query: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, StepError> {
        let mut url = parse(cx.reveal(text)?.expose())
            .map_err(|why| StepError::new(ErrorClass::Invalid, format!("`{text}` is no address: {why}")))?;
        let mut label = text.to_owned();
        for (name, value) in query {
            url.query_pairs_mut().append_pair(name, cx.reveal(value)?.expose());
            label.push(if label.contains('?') { '&' } else { '?' });
            label.push_str(&format!("{name}={value}"));
        }
        Ok(Self { url, label })
    }

    /// Where a redirect leads.
    ///
    /// # Errors
    /// Nowhere that may be gone to.
    pub(super) fn follow(&self, cx: &Context, location: &str) -> Result<Self, StepError> {
        let to = self.url.join(location).map_err(|error| error.to_string());
        let url = to.and_then(|url| parse(url.as_str())).map_err(|why| {
            let message = format!("`{}` redirects to `{location}`, which is no address: {why}", self.label);
            StepError::new(ErrorClass::Corrupt, message)
        })?;
        if self.url.scheme() == "https" && url.scheme() == "http" {
            let message =
                format!("`{}` redirects to `{location}`: expected no way from https to http", self.label);
            return Err(StepError::new(ErrorClass::Denied, message)
                .hint("leave out `redirects` and expect the redirect itself, with `status: 3xx`"));
        }
        let label = told(cx, &url);
        Ok(Self { url, label })
    }

    /// Whether both are of the same server: what was meant for one may be sent to the other.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        self.url.origin() == other.url.origin()
    }

    pub(super) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The host, as a resolver or a certificate has it: an IPv6 address without brackets.
    pub(super) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']').to_owned()
    }

    pub(super) fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(80)
    }

    /// `HOST:PORT`, the port only if it is not the usual one.
    pub(super) fn authority(&self) -> String {
        self.url[Position::BeforeHost..Position::AfterPort].to_owned()
    }

    /// What stands in the first line of the request.
    pub(super) fn path(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }

    /// A command that asks the same.
    pub(super) fn by_curl(&self) -> String {
        format!("curl -sv {}", shell_word(&self.label))
    }
}

/// An address that a server made up. It may quote a secret with other characters escaped than a search would find.
fn told(cx: &Context, url: &Url) -> String {
    let plain = decoded(url.as_str());
    let masked = cx.services.secrets.mask(&plain);
    if masked == plain { url.to_string() } else { masked.into_owned() }
}

/// The text without its percent signs.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| first == b'%').and_then(|two| {
            let two = std::str::from_utf8(two).ok()?;
            u8::from_str_radix(two, 16).ok().filter(|_| !two.starts_with('+'))
        });
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{decoded, refused};

    #[test]
    fn what_is_no_address_of_a_request_is_refused() {
        for wrong in [
            "ftp://host/",
            "http://",
            "host/path",
            "http://host/a b",
            "http://host/\r\nX: y",
            "http://host\\@evil/",
            "http://user:word@host/",
            "http://-oProxyCommand/",
            "file:///etc/passwd",
            "http://host:99999/",
        ] {
            assert!(refused(wrong).is_some(), "{wrong}");
        }
        for right in ["http://127.0.0.1:8080/健康?名=值", "https://[::1]/", "http://例子.测试/"] {
            assert_eq!(refused(right), None, "{right}");
        }
    }

    #[test]
    fn percent_signs_are_read_back() {
        assert_eq!(decoded("a%20b%2Fc%E4%B8%AD%zz%+1%"), "a b/c中%zz%+1%");
    }
}
