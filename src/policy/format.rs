//! Formats policies.

use cedar_policy_formatter::{Config, policies_str_to_pretty};

use crate::model::PolicyProblem;

use super::diagnostics::problems_of;
use super::guard::{self, Grammar};

/// Formats the policies of `text`: 80 columns, two spaces, as Cedar's own tool does; comments and annotations stay.
///
/// Recurses as deep as the policies nest, so it must run on a thread with a stack of 256 MiB.
///
/// # Errors
/// Problems with their places, if the text does not parse.
pub fn format_policies(file: &str, text: &str) -> Result<String, Vec<PolicyProblem>> {
    guard::check_text(file, text, Grammar::Policies).map_err(|problem| vec![problem])?;
    let parsed =
        super::cedar::parse_policyset(text).map_err(|errors| problems_of(file, text, &errors))?;
    if parsed.is_empty() && parsed.all_templates().next().is_none() {
        return Ok(text.to_owned());
    }
    let config = Config {
        line_width: 80,
        indent_width: 2,
    };
    policies_str_to_pretty(text, &config).map_err(|report| {
        vec![PolicyProblem::error(
            file,
            format!("the formatter refuses the file: {report:?}"),
        )]
    })
}
