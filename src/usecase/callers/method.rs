//! The calls that are not for everybody.

/// Every call that needs a binding: its service and its name. Health and reflection need none.
pub const METHODS: [(&str, &str); 20] = [
    ("AuthorizationService", "Authorize"),
    ("AuthorizationService", "BatchAuthorize"),
    ("AuthorizationService", "Explain"),
    ("ApprovalService", "GetApproval"),
    ("ApprovalService", "ListApprovals"),
    ("ApprovalService", "WatchApproval"),
    ("ApprovalService", "WaitApproval"),
    ("ApprovalService", "ListReviewers"),
    ("ApprovalService", "Vote"),
    ("ApprovalService", "CancelApproval"),
    ("ApprovalService", "RevokeApproval"),
    ("ApprovalService", "ReportOutcome"),
    ("PolicyService", "GetPolicyStatus"),
    ("PolicyService", "ReloadPolicies"),
    ("AuditService", "ListLogs"),
    ("AuditService", "QueryRecords"),
    ("AuditService", "GetCheckpoint"),
    ("AuditService", "GetInclusionProof"),
    ("AuditService", "GetConsistencyProof"),
    ("AuditService", "ExportRecords"),
];

/// One of [`METHODS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method(u8);

impl Method {
    /// `AuthorizationService/Authorize`.
    pub const AUTHORIZE: Self = Self(0);
    /// `AuthorizationService/BatchAuthorize`.
    pub const BATCH_AUTHORIZE: Self = Self(1);
    /// `AuthorizationService/Explain`.
    pub const EXPLAIN: Self = Self(2);

    /// The method of `service`, both by their short names.
    pub fn named(service: &str, name: &str) -> Option<Self> {
        let at = METHODS.iter().position(|each| *each == (service, name))?;
        u8::try_from(at).ok().map(Self)
    }

    /// All methods.
    pub fn all() -> impl Iterator<Item = Self> {
        (0_u8..).take(METHODS.len()).map(Self)
    }

    /// Its place among [`METHODS`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its service and its name.
    pub fn names(self) -> (&'static str, &'static str) {
        METHODS.get(self.index()).copied().unwrap_or_default()
    }

    /// Whether it decides requests, which may be many at a time.
    pub fn decides(self) -> bool {
        self.0 <= Self::EXPLAIN.0
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (service, name) = self.names();
        write!(f, "{service}/{name}")
    }
}

/// Some of the methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodSet(u32);

/// A name that no service or method has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither a service, such as `AuthorizationService`, nor one of its methods, such as `AuthorizationService/Explain`"
)]
pub struct NoSuchMethod(pub String);

impl MethodSet {
    /// All methods.
    pub fn all() -> Self {
        Method::all().collect()
    }

    /// The methods that `names` name: whole services, or single methods as `Service/Method`.
    ///
    /// # Errors
    /// The first name that names none.
    pub fn named<S: AsRef<str>>(names: &[S]) -> Result<Self, NoSuchMethod> {
        let mut set = Self::default();
        for name in names {
            let name = name.as_ref();
            let found: Self = Method::all()
                .filter(|method| method.names().0 == name || method.to_string() == name)
                .collect();
            if found == Self::default() {
                return Err(NoSuchMethod(name.to_owned()));
            }
            set.0 |= found.0;
        }
        Ok(set)
    }

    /// Whether `method` is one of them.
    pub fn has(self, method: Method) -> bool {
        self.0 & bit(method) != 0
    }
}

impl FromIterator<Method> for MethodSet {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Self {
        Self(methods.into_iter().fold(0, |set, method| set | bit(method)))
    }
}

fn bit(method: Method) -> u32 {
    1_u32.checked_shl(u32::from(method.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_stands_for_all_its_methods() {
        let set = MethodSet::named(&["PolicyService", "AuthorizationService/Explain"]).unwrap();
        let held: Vec<String> = Method::all()
            .filter(|method| set.has(*method))
            .map(|method| method.to_string())
            .collect();
        assert_eq!(
            held,
            [
                "AuthorizationService/Explain",
                "PolicyService/GetPolicyStatus",
                "PolicyService/ReloadPolicies"
            ]
        );
        assert_eq!(
            MethodSet::named(&["Authorize"]),
            Err(NoSuchMethod("Authorize".to_owned()))
        );
    }

    #[test]
    fn the_named_methods_are_where_they_are_said_to_be() {
        let at = |service, name| Method::named(service, name);
        let service = "AuthorizationService";
        assert_eq!(at(service, "Authorize"), Some(Method::AUTHORIZE));
        assert_eq!(at(service, "BatchAuthorize"), Some(Method::BATCH_AUTHORIZE));
        assert_eq!(at(service, "Explain"), Some(Method::EXPLAIN));
        assert_eq!(at(service, "Vote"), None);
        assert!(!Method::named("ApprovalService", "Vote").unwrap().decides());
    }
}
