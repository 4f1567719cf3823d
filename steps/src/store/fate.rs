//! What became of a thing that a step stored, and what that means for its undo and for the look at what is left.

use engine::step::{Leftover, Presence, Undone};

/// What was stored, for those who read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// What it is, such as ``row 5 of `t` in `/a.db` ``.
    pub what: String,
    /// A command that removes it, or looks at it; empty if there is none.
    pub remove_with: String,
}

impl Thing {
    /// The thing and why it is still there.
    #[must_use]
    pub fn because(&self, why: impl Into<String>) -> Leftover {
        Leftover { what: self.what.clone(), why: why.into(), remove_with: self.remove_with.clone() }
    }
}

/// What became of it. Only what could be seen whole is [`Fate::Gone`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is there, as it was stored.
    AsStored,
    /// It is not there, and all places where it could be were seen.
    Gone,
    /// It is there, and somebody changed it or moved it: how.
    Changed(String),
    /// Nobody can tell: a look was denied or failed, or the place is another now. Why.
    Unseen(String),
}

impl Fate {
    /// It is there, with these differences; none of them, and it is as it was stored.
    #[must_use]
    pub fn of_differences(differences: &[String]) -> Self {
        match differences {
            [] => Self::AsStored,
            some => Self::Changed(format!("it was changed since: {}", some.join(", "))),
        }
    }

    /// What the undo comes to without a touch; nothing if the thing is there as it was stored, and has to be removed.
    #[must_use]
    pub fn undone(&self, thing: &Thing) -> Option<Undone> {
        match self {
            Self::AsStored => None,
            Self::Gone => Some(Undone::NothingToDo),
            Self::Changed(why) => Some(Undone::Left(thing.because(why))),
            Self::Unseen(why) => Some(Undone::CannotTell(thing.because(why))),
        }
    }

    /// What the look for leftovers says of it.
    #[must_use]
    pub fn presence(&self, thing: &Thing) -> Presence {
        match self {
            Self::AsStored => Presence::Present(thing.because("it is still there")),
            Self::Gone => Presence::Gone,
            Self::Changed(why) => Presence::Present(thing.because(why)),
            Self::Unseen(why) => Presence::Unknown(why.clone()),
        }
    }
}
