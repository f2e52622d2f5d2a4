//! Why a token names nobody.

/// Why a token names nobody. Says nothing of the token's content, so a client may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It is longer than a token can be.
    #[error("the token is longer than 16 KiB")]
    TooLong,
    /// It is no JSON Web Token.
    #[error("the token is not a signed JSON Web Token")]
    Malformed,
    /// Its header has an extension that must be understood.
    #[error("the token's header has a `crit` that must be understood, and nothing of it is")]
    Critical,
    /// It is a token for something else.
    #[error("the token's `typ` is not one that its issuer's tokens have here")]
    WrongType,
    /// Its signature is of a sort that does not count.
    #[error("the token's `alg` is not one that its issuer may sign with here")]
    AlgorithmNotAllowed,
    /// It lacks a claim, or has it in another form.
    #[error("the token has no `{claim}` that can be read")]
    BadClaim {
        /// Which; a word of ours, never of the token.
        claim: &'static str,
    },
    /// Nobody knows its issuer.
    #[error("the token's issuer is not one that is trusted here")]
    UnknownIssuer,
    /// It was issued for somebody else.
    #[error("the token is not for this audience")]
    WrongAudience,
    /// It was issued for several of our audiences, which may mean different things.
    #[error("the token is for more than one of the audiences that are told apart here")]
    SeveralAudiences,
    /// Its issuer has no such key, or several.
    #[error("the token's key is not among its issuer's keys")]
    UnknownKey,
    /// Its signature is wrong.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// It has ended.
    #[error("the token has expired")]
    Expired,
    /// It has not begun.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It is valid for too long.
    #[error("the token is valid for longer than is accepted here")]
    LivesTooLong,
    /// Whom it names cannot be named.
    #[error("the token's subject is missing, too long or not plain text")]
    BadSubject,
    /// Its roles cannot be read.
    #[error("the token's roles are not a text or a list of at most 256 texts")]
    BadRoles,
    /// Who acts for its subject cannot be read.
    #[error("the token's `act` cannot be read, or is nested more than 8 deep")]
    BadActors,
    /// There are no keys to check it with: a fault of ours or of the issuer's, not of the token.
    #[error("the keys of the token's issuer are not available")]
    KeysUnavailable,
}

impl TokenFault {
    /// Whether the same token may be right later: nothing is known of it, and nothing is wrong with it.
    pub fn is_unavailable(self) -> bool {
        self == Self::KeysUnavailable
    }
}
