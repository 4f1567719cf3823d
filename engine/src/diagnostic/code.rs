//! The codes of diagnostics, each with a page that explains it.

/// What kind of mistake a diagnostic is about. The code is stable; the words may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The text is no YAML.
    Yaml,
    /// The text is larger, deeper or repeats more than a playbook may.
    TooLarge,
    /// The file is no UTF-8 text, or holds characters that cannot be seen.
    Encoding,
    /// A key that does not exist.
    UnknownKey,
    /// A key that must be there and is not.
    MissingKey,
    /// A value of another type than expected.
    WrongType,
    /// A value that is not among those allowed.
    BadValue,
    /// A name that cannot be one.
    BadName,
    /// The same name twice.
    Duplicate,
    /// A name that hides another of the same spelling.
    Shadowed,
    /// An expression that is no CEL.
    Syntax,
    /// A name in an expression, a need or a host that does not exist.
    UnknownName,
    /// A name that cannot be used in this place.
    OutOfPlace,
    /// Steps or vars that wait for each other.
    Cycle,
    /// A step that changes something where only reading is allowed.
    EffectInReadOnly,
    /// The output of a step that may be skipped.
    MayBeSkipped,
    /// Keys that do not go together.
    Conflict,
    /// Something that is never used.
    Unused,
    /// A file that the playbook reads and that does not exist.
    NoSuchPath,
    /// A problem found while making the plan.
    Plan,
    /// An effect without an undo.
    NoUndo,
    /// A wait without a limit of its own.
    NoTimeout,
    /// Effects on the same thing in no order.
    Unordered,
    /// A secret among the arguments of a program.
    SecretInArgv,
    /// A value pasted into a script.
    ShellValue,
    /// Something removed by a wildcard.
    Wildcard,
    /// An effect whose failure does not count.
    IgnoredEffect,
}

/// A code, its name and its page.
macro_rules! codes {
    ($($code:ident $name:literal,)*) => {
        impl Code {
            /// All codes, in the order in which they are listed.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// The code as users see it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$code => $name),* }
            }

            /// Its page, Markdown: what it means, a wrong and a right example, why the rule is there.
            #[must_use]
            pub fn page(self) -> &'static str {
                match self {
                    $(Self::$code => include_str!(concat!("../../../docs/errors/", $name, ".md"))),*
                }
            }
        }
    };
}

codes! {
    Yaml "yaml",
    TooLarge "too-large",
    Encoding "encoding",
    UnknownKey "unknown-key",
    MissingKey "missing-key",
    WrongType "wrong-type",
    BadValue "bad-value",
    BadName "bad-name",
    Duplicate "duplicate",
    Shadowed "shadowed",
    Syntax "syntax",
    UnknownName "unknown-name",
    OutOfPlace "out-of-place",
    Cycle "cycle",
    EffectInReadOnly "effect-in-read-only",
    MayBeSkipped "may-be-skipped",
    Conflict "conflict",
    Unused "unused",
    NoSuchPath "no-such-path",
    Plan "plan",
    NoUndo "no-undo",
    NoTimeout "no-timeout",
    Unordered "unordered",
    SecretInArgv "secret-in-argv",
    ShellValue "shell-value",
    Wildcard "wildcard",
    IgnoredEffect "ignored-effect",
}

impl Code {
    /// What it means, in a line: the title of its page.
    #[must_use]
    pub fn title(self) -> &'static str {
        let first = self.page().lines().next().unwrap_or_default();
        first.split_once(": ").map_or(first, |(_, title)| title)
    }

    /// The code of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}
