//! Any text: formatting it does not crash, and what was formatted once stays as it is.

#![no_main]

use countersign::policy::format_policies;
use countersign::usecase::on_large_stack;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    on_large_stack(|| format_twice(text)).expect("the thread ends");
});

fn format_twice(text: &str) {
    let once = match format_policies("a.cedar", text) {
        Ok(formatted) => formatted,
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            return;
        }
    };
    let twice = format_policies("a.cedar", &once).expect("formatted text can be formatted");
    assert_eq!(once, twice, "formatting again changes the text");
}
