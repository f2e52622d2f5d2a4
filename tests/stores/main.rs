//! What every store of approvals and of the control log must do, and what the databases' own rules refuse.
//!
//! A behaviour is one `async fn` that takes an empty store, as the `store` of approvals or `kept` as both. `conformance!` makes a test of each behaviour for each backend: to add a
//! backend, write a [`backends::StoreFactory`] and add its line at the end of this file; to add a behaviour, add its name to the list.
//! `COUNTERSIGN_ROUNDS` says how often the races are run (20 unless told otherwise).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there, in its helpers too"
)]

mod backends;
mod delivering;
mod evidence;
mod keeping;
mod listing;
mod logging;
mod opening;
mod postgres_failures;
mod postgres_log;
mod postgres_rules;
mod racing;
mod redeeming;
mod sqlite_log;
#[cfg(unix)]
mod sqlite_rules;
mod support;
mod telling;
mod timing;
mod voting;

/// Makes a module of tests for `$backend`, one for each behaviour.
macro_rules! conformance_of {
    ($backend:ident, $factory:expr, $($folder:ident($given:ident): [$($behaviour:ident),+ $(,)?])+) => {
        mod $backend {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $behaviour() {
                    // A backend that is not there is not tested.
                    if let Some(fresh) = crate::backends::StoreFactory::fresh(&$factory).await {
                        crate::$folder::$behaviour(fresh.$given.clone()).await;
                    }
                }
            )+)+
        }
    };
}

/// The list of behaviours, for each backend.
macro_rules! conformance {
    ($($backend:ident: $factory:expr;)+) => {
        $(conformance_of! { $backend, $factory,
            opening(store): [
                an_opened_approval_is_found_as_it_was_answered,
                the_same_request_joins_and_is_counted,
                a_join_does_not_tell_anybody_again,
                a_request_joins_an_approved_one_until_it_lapses,
                another_caller_does_not_join,
                a_repeated_opening_answers_the_approval_as_it_is_now,
                a_repeated_join_does_not_count_twice,
                a_key_with_another_payload_is_refused,
                keys_belong_to_a_caller_and_a_method,
                a_refused_opening_is_not_remembered,
                an_expired_approval_gives_way_without_a_sweeper,
                a_lapsed_approval_gives_way_without_a_sweeper,
                a_denied_request_cools_down_and_longer_each_time,
                too_many_waiting_are_refused_until_one_is_resolved,
                what_has_expired_does_not_count_as_waiting,
                too_many_within_a_minute_are_refused,
                one_request_asked_by_many_at_once_is_one_approval,
                an_id_that_is_taken_is_refused_and_spoils_nothing_else,
            ]
            voting(store): [
                a_vote_is_kept_and_a_quorum_approves,
                a_person_votes_once,
                two_accounts_of_one_person_are_one_vote,
                a_changed_mind_denies,
                a_no_after_the_quorum_revokes,
                the_requesters_side_never_approves_and_the_attempt_is_recorded,
                a_barred_canonical_name_never_approves,
                a_vote_for_another_view_is_refused,
                a_vote_for_another_version_moves_nothing,
                a_vote_with_its_version_counts,
                a_repeated_vote_answers_the_approval_as_it_is_now,
                a_vote_with_a_used_key_is_refused,
                a_refused_vote_may_be_tried_again_under_its_key,
                an_unknown_approval_is_unknown,
                a_cancelled_approval_takes_no_votes,
                forgotten_keys_may_be_used_again,
            ]
            timing(store): [
                a_vote_at_the_deadline_is_too_late_without_a_sweeper,
                a_vote_just_before_the_deadline_counts,
                a_clock_that_goes_back_opens_nothing_again,
                approvals_are_due_longest_overdue_first,
                a_tick_reminds_escalates_and_ends,
                an_unreported_redemption_becomes_unknown,
                versions_are_those_of_what_exists,
                moments_finer_than_a_microsecond_do_no_harm,
            ]
            redeeming(store): [
                a_grant_is_redeemed_once,
                the_same_key_gets_the_same_answer,
                sixty_four_redeemers_get_one_grant,
                a_lapsed_grant_is_not_redeemed,
                another_request_or_caller_does_not_redeem,
                a_grant_whose_votes_do_not_hold_is_superseded,
                an_outcome_is_reported_once,
            ]
            racing(store): [
                two_votes_that_fill_a_quorum_together_never_get_stuck,
                a_no_is_never_lost_and_a_grant_is_spent_at_most_once,
                many_voters_on_one_approval_are_all_counted,
                a_lease_has_one_holder,
            ]
            listing(store): [
                pages_show_each_approval_once_latest_first,
                pages_stay_as_they_are_when_more_is_opened,
                a_status_is_that_of_the_moment,
                rules_and_requesters_filter,
                approvals_opened_at_once_are_ordered_by_id,
                an_empty_store_lists_nothing,
            ]
            keeping(store): [
                records_tell_the_whole_story_in_order,
                a_refusal_is_recorded_with_its_event,
                a_record_keeps_a_redemption_whole,
                sequences_grow_over_all_approvals,
                odd_characters_survive,
                a_large_request_survives,
                changes_are_heard,
                a_lease_is_renewed_and_its_epoch_grows_with_each_holder,
                a_dropped_caller_does_not_cancel_a_write,
                state_without_effect_is_not_a_change,
            ]
            delivering(store): [
                a_change_makes_a_delivery_for_each_place,
                three_votes_are_one_delivery,
                what_is_posted_is_not_due_until_the_next_change,
                a_change_while_it_is_told_is_told_afterwards,
                workers_never_share_a_delivery,
                a_limit_is_kept_and_the_longest_due_come_first,
                a_lost_worker_is_replaced_when_its_lease_ends,
                a_worker_that_lost_its_lease_is_ignored,
            ]
            telling(store): [
                a_retry_waits_for_its_time,
                a_change_does_not_hurry_a_retry,
                what_is_given_up_stays_visible,
                the_next_change_revives_what_was_given_up,
                a_change_during_the_last_try_is_told,
                a_message_reference_is_kept,
                a_place_asked_later_is_told_from_then_on,
                a_refusal_tells_nobody,
            ]
            logging(kept): [
                appended_records_wait_in_their_order,
                every_change_and_every_refusal_leaves_its_entry,
                what_is_not_written_leaves_no_entry,
                an_empty_record_is_refused,
                places_are_consecutive_and_the_head_follows,
                a_command_that_does_not_fit_changes_nothing,
                a_tree_of_another_size_is_an_error,
                places_are_given_under_the_present_lease_only,
                pages_of_the_log_follow_each_other,
                checkpoints_are_of_later_sizes_only,
                two_sequencers_leave_no_hole_and_no_double,
                what_is_appended_meanwhile_gets_one_place_each,
            ]
        })+
    };
}

conformance! {
    memory: crate::backends::Memory;
    sqlite: crate::backends::Sqlite;
    postgres: crate::backends::Postgres;
}
