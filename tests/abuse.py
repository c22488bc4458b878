"""The register of abuses: what somebody will try, where it is written what must come of it, and the
tests that hold us to that.

Each is something that a serious system once got wrong. A test of the house
(tests/house/test_abuse_cases.py) sees that all the tests are there; what they expect, and where a
standard leaves a choice which one was made, is said in their docstrings. Numbers are for talking
about them; nothing hangs on their order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Abuse:
    """`tests` are written `folder/module::name`, within tests/ and without `test_` and `.py`."""

    what: str
    source: str
    tests: tuple[str, ...]


def _held(what: str, source: str, tests: str) -> Abuse:
    # A name that is too long for its line goes on in the next one, after its colons.
    return Abuse(what, source, tuple(re.sub(r"\s+::", "::", tests).split()))


_TOKEN: Mapping[int, Abuse] = {
    1: _held("a token is asked for by GET", "RFC 6749 §3.2",
        "oauth/token_request::another_method_is_refused_and_told_which"),
    2: _held("the body is JSON, of another type or of none", "RFC 6749 §4.4.2",
        """oauth/token_request::another_content_type_or_none_is_refused
        oauth/token_request::a_json_body_is_refused_even_as_a_form
        oauth/token_request::two_content_types_are_refused"""),
    3: _held("no grant_type is said", "RFC 6749 §5.2",
        "oauth/token_request::a_missing_grant_type_is_refused"),
    4: _held("a grant is asked for that there is none of", "RFC 6749 §5.2",
        "oauth/token_request::another_grant_type_is_not_supported"),
    5: _held("a parameter is said twice, alike or not", "RFC 6749 §3.2",
        """oauth/token_request::a_parameter_that_is_there_twice_is_refused
        oauth/introspection::a_token_that_is_there_twice_is_refused"""),
    6: _held("there are parameters that nobody knows", "RFC 6749 §3.2",
        "oauth/token_request::unknown_parameters_are_ignored_and_the_request_accepted"),
    7: _held("a parameter has no value", "RFC 6749 §3.2",
        """oauth/token_request
        ::parameters_without_a_value_count_as_omitted_and_the_rest_is_accepted"""),
    8: _held("the client's secret stands in the address", "RFC 6749 §2.3.1",
        "oauth/token_request::credentials_in_the_uri_are_not_read"),
    9: _held("a client proves itself in two ways at once", "RFC 6749 §2.3",
        """oauth/client_authentication::two_ways_at_once_are_refused
        oauth/client_authentication::two_authorization_headers_are_refused
        oauth/private_key_jwt::TestOneWay::an_assertion_and_a_secret_are_refused"""),
    10: _held("header and body name two clients", "RFC 6749 §5.2",
        "oauth/client_authentication::another_client_id_in_the_body_is_refused"),
    11: _held("id and secret are form encoded within Basic", "RFC 6749 appendix B",
        """oauth/client_authentication::both_halves_of_basic_are_form_decoded
        oauth/client_authentication::a_plus_in_basic_is_a_blank_and_not_itself"""),
    12: _held("the header is malformed, or of another scheme", "RFC 7617 §2, RFC 9110 §11.1",
        """oauth/client_authentication
        ::a_malformed_or_unknown_authorization_is_a_failed_authentication
        oauth/client_authentication::the_scheme_has_no_case"""),
    13: _held("the secret in the header is wrong", "RFC 6749 §5.2",
        """oauth/client_authentication
        ::a_malformed_or_unknown_authorization_is_a_failed_authentication
        oauth/client_authentication::every_refused_client_gets_the_same_bytes"""),
    14: _held("the secret in the body is wrong", "RFC 6749 §5.2",
        "oauth/client_authentication::a_wrong_secret_is_refused_whatever_it_is"),
    15: _held("clients are guessed by what the answer says or costs", "RFC 6819 §5.1.4.2.3",
        """oauth/client_authentication::every_refused_client_gets_the_same_bytes
        services/login_cost::whatever_is_wrong_is_one_hash
        services/login_cost::nobody_is_told_apart_by_the_clock"""),
    16: _held("a secret is longer than a hash reads", "bcrypt reads 72 bytes",
        """oauth/client_authentication::a_wrong_secret_is_refused_whatever_it_is
        services/login_cost::what_is_no_secret_costs_nobody_anything
        auth/secrets::what_is_no_secret_is_refused_without_a_hash"""),
    17: _held("a secret is the beginning of a longer one", "bcrypt reads 72 bytes",
        """oauth/client_authentication::a_wrong_secret_is_refused_whatever_it_is
        auth/secrets::all_of_a_secret_counts"""),
    18: _held("the stored hash is sent as the secret", "RFC 6819 §5.1.4.1.3",
        """oauth/client_authentication::a_wrong_secret_is_refused_whatever_it_is
        auth/secrets::the_stored_hash_is_no_secret"""),
    19: _held("a field holds what no column can", "RFC 6749 appendix A",
        """oauth/token_request::what_no_field_can_hold_is_refused
        oauth/token_request::a_broken_percent_escape_is_refused
        oauth/hostile_requests::every_answer_is_one_of_the_protocol_s"""),
    20: _held("a credential or an agent has ended, or is suspended", "RFC 6749 §5.2",
        """oauth/client_authentication::every_refused_client_gets_the_same_bytes
        oauth/client_authentication::a_credential_that_has_just_expired_is_too_late"""),
    21: _held("the right secret is sent to another tenant", "own rule of tenancy",
        """oauth/client_authentication::every_refused_client_gets_the_same_bytes
        services/login_cost::nobody_is_told_apart_by_the_clock
        auth/callers::every_failed_login_costs_one_comparison_whoever_it_names"""),
    22: _held("more is asked for than may be had, or malformed", "RFC 6749 §3.3",
        """oauth/token_answer::a_scope_beyond_the_capabilities_or_malformed_is_invalid
        oauth/scope_algebra::what_is_no_list_of_capabilities_is_refused_by_either_way"""),
    23: _held("a token is asked for whom nobody has registered", "RFC 8707 §2",
        """oauth/token_answer
        ::a_resource_that_is_not_registered_or_malformed_is_an_invalid_target
        oauth/resources::one_tenant_s_are_no_other_s"""),
    24: _held("secrets are guessed a thousand times", "RFC 6749 §2.3.1, RFC 6585 §4",
        """oauth/throttling::a_thousand_wrong_secrets_are_a_few_refusals_and_then_429
        services/login_budgets::TestOfOneClientFromOneAddress
        ::a_right_secret_from_elsewhere_works
        services/login_budgets::TestOfOneAddress::it_may_name_so_many_and_no_more"""),
    25: _held("a request is endless, or comes a byte at a time", "RFC 9110 §15.5.9, RFC 6585 §5",
        """oauth/token_request::a_body_of_64_kib_is_accepted_and_one_byte_more_is_not
        oauth/token_request::a_body_is_counted_as_it_comes_not_as_it_says
        oauth/token_request::a_body_of_thousands_of_parameters_is_refused
        journeys/slow_clients::a_body_that_drips_is_refused_in_the_form_of_its_endpoint
        journeys/greedy_clients::headers_without_end_are_refused_and_not_kept"""),
    26: _held("hundreds log in at the same moment", "own rule of load",
        """oauth/crowds::five_hundred_logins_of_one_client_with_one_secret_are_one_hash
        auth/secrets::the_event_loop_runs_on_while_a_hash_is_made"""),
    27: _held("secrets are rotated and used at once", "own rule of rotation",
        """services/rotation::both_work_until_the_overlap_is_over
        services/rotation::of_ten_that_rotate_at_once_one_does_and_there_is_one_newest
        services/rotation
        ::logins_at_the_time_of_a_rotation_never_meet_a_moment_without_a_secret"""),
}  # fmt: skip

_INTROSPECTION_AND_REVOCATION: Mapping[int, Abuse] = {
    28: _held("nobody, or nobody known, looks into or revokes", "RFC 7662 §2.1, RFC 7009 §2.1",
        """oauth/client_authentication::the_other_endpoints_ask_for_the_same_proof
        oauth/introspection::TestByBearerToken
        ::who_sends_no_proof_is_told_both_ways_and_of_no_error"""),
    29: _held("no token is named", "RFC 7662 §2.1",
        "oauth/introspection::a_missing_token_is_refused"),
    30: _held("what is looked into is no live token of here", "RFC 7662 §2.2",
        """oauth/introspection::garbage_is_inactive_and_nothing_more
        oauth/introspection::another_tenant_s_token_is_inactive
        oauth/introspection::a_token_that_has_ended_is_inactive_to_the_second
        oauth/introspection::a_changed_token_is_inactive
        oauth/forged_tokens::a_forged_token_is_one_nowhere_and_nobody_is_asked_about_it"""),
    31: _held("the hint is wrong", "RFC 7662 §2.1, RFC 7009 §2.1",
        "oauth/introspection::the_hint_makes_no_difference"),
    32: _held("a client looks into another's token", "RFC 7662 §2.3",
        "oauth/introspection::a_client_sees_its_own_tokens_and_others_with_tokens_read"),
    33: _held("the answer is taken to be about the caller", "RFC 7662 §2.2",
        "oauth/introspection::a_live_token_is_described_as_its_owner_s"),
    34: _held("a client probes for live tokens", "RFC 7662 §4",
        """oauth/throttling::TestRateLimit
        ::asking_and_looking_into_and_revoking_are_of_one_share
        oauth/throttling::a_thousand_wrong_secrets_are_a_few_refusals_and_then_429"""),
    35: _held("what is revoked is no live token, or no more", "RFC 7009 §2.2",
        """oauth/revocation::what_is_no_token_is_answered_like_one
        oauth/revocation::a_token_that_has_ended_is_answered_alike
        oauth/revocation::revoking_again_is_harmless_and_written_once"""),
    36: _held("a client revokes another's token", "RFC 7009 §2.1",
        """oauth/revocation::another_client_s_token_needs_tokens_write_or_stays_live
        oauth/revocation::another_tenant_s_token_is_answered_alike_and_stays_live"""),
    37: _held("a token is revoked while the database is away", "RFC 7009 §2.2.1",
        """oauth/faults::without_storage_every_question_is_answered_503_and_then_as_before
        oauth/revocation::a_revocation_that_takes_too_long_is_given_up_and_undone"""),
    38: _held("a token is revoked while the cache is away", "own rule of acknowledgement",
        """services/acknowledgement
        ::while_the_cache_is_away_a_cut_is_made_at_once_and_acknowledged_in_the_end
        services/acknowledgement
        ::a_process_without_the_cache_acknowledges_nothing_that_another_may_not_know
        services/acknowledgement::the_endpoint_says_when_to_come_again"""),
}  # fmt: skip

_FORGED = "oauth/forged_tokens::a_forged_token_is_one_nowhere_and_nobody_is_asked_about_it "
_GOOD = "oauth/forged_tokens::what_is_tried_is_good_but_for_one_thing "

_VERIFICATION: Mapping[int, Abuse] = {
    39: _held("no token is sent", "RFC 6750 §3.1",
        """oauth/introspection::TestByBearerToken
        ::who_sends_no_proof_is_told_both_ways_and_of_no_error
        graphql/callers::without_a_token_only_guarded_fields_are_refused"""),
    40: _held("a token says that it needs no signature", "RFC 8725 §3.1–3.2", _FORGED +
        """oauth/forged_tokens::one_of_five_megabytes_is_no_token
        auth/token_signatures::TestSignature::no_algorithm_is_no_signature"""),
    41: _held("a public key is used as a shared secret", "RFC 8725 §2.1", _FORGED +
        "auth/token_signatures::TestSignature::a_public_key_is_no_shared_secret"),
    42: _held("a token names another algorithm than its key's", "RFC 8725 §3.1", _FORGED +
        """auth/token_signatures::TestSignature::the_key_fixes_the_algorithm
        auth/token_signatures::TestSignature::a_key_of_another_kind_or_size_is_not_ours"""),
    43: _held("a kid is a path, a statement or no name at all", "RFC 8725 §3.10", _FORGED +
        "auth/token_signatures::TestHeader::a_kid_names_a_key_of_the_ring_or_nothing"),
    44: _held("a token brings its own key along", "RFC 8725 §3.10", _FORGED + _GOOD +
        "auth/token_signatures::TestHeader::a_key_that_the_token_brings_along_is_never_used"),
    45: _held("a token wants something understood", "RFC 7515 §4.1.11", _FORGED +
        "auth/token_signatures::TestHeader::what_we_would_have_to_understand_is_refused"),
    46: _held("another kind of JWT is shown", "RFC 9068 §4", _FORGED + _GOOD +
        "auth/token_signatures::TestHeader::any_other_kind_of_token_is_refused"),
    47: _held("a token is of another issuer, or for another audience", "RFC 8725 §3.8–3.9",
        _FORGED + _GOOD + """oauth/forged_tokens::one_that_is_meant_for_others_opens_nothing_here
        oauth/forged_tokens::what_says_another_tenant_is_not_of_this_one"""),
    48: _held("a token ends never, or when nothing can hold it", "RFC 7519 §4.1.4", _FORGED +
        "auth/token_claims::TestTime::an_end_that_nothing_can_hold_is_refused"),
    49: _held("a token is from the future", "RFC 7519 §4.1.5", _FORGED + _GOOD +
        "auth/token_claims::TestTime::a_token_from_the_future_is_accepted_within_the_leeway"),
    50: _held("a jti is none, or in another spelling", "RFC 7519 §4.1.7", _FORGED +
        """oauth/forged_tokens::what_no_column_could_hold_reaches_no_storage
        oauth/forged_tokens::a_jti_is_the_same_in_capitals
        oauth/forged_tokens::a_jti_is_its_tenant_s_own"""),
    51: _held("a revoked token is written in another way", "own rule: revoked by its jti", _FORGED +
        """oauth/revocation::another_spelling_of_a_revoked_token_is_refused
        auth/token_signatures::TestTwin::it_is_revoked_with_the_other"""),
    52: _held("the JSON of a token is twisted", "RFC 8725 §2, RFC 7515 §4", _FORGED +
        """auth/token_claims::TestClaims::a_member_that_is_there_twice_is_not_guessed_at
        auth/token_claims::TestClaims::a_deep_payload_is_a_refusal_and_no_fault"""),
    53: _held("a token is sent twice, or where it is not read", "RFC 6750 §2 and §3.1",
        """graphql/callers::what_cannot_be_read_as_one_token_is_a_bad_request
        graphql/callers::a_token_in_the_address_is_a_bad_request
        oauth/introspection::TestByBearerToken::a_malformed_header_is_no_token_at_all
        oauth/introspection::TestByBearerToken::one_in_the_uri_or_in_the_body_is_not_read"""),
    54: _held("a token lacks the scope", "RFC 6750 §3.1",
        """graphql/callers::a_scope_that_is_missing_is_named
        house/access_coverage::all_other_scopes_together_do_not_stand_for_the_one"""),
    55: _held("a token outlives its agent, tenant or key", "own rule: cut at once",
        """graphql/callers::a_suspended_agent_s_live_token_is_refused_and_stays_so
        services/tenant_removal::a_removed_tenant_is_refused_at_once_and_its_data_waits
        graphql/keys::a_retired_key_s_tokens_are_refused_by_the_next_request"""),
    56: _held("a revoked token is tried elsewhere at once", "RFC 7009 §2",
        """services/zero_window
        ::a_revoked_token_is_refused_everywhere_as_soon_as_that_is_acknowledged
        journeys/revoked_stays_revoked::two_gateways_agree_at_once"""),
}  # fmt: skip

_STORES: Mapping[int, Abuse] = {
    57: _held("the cache forgets, comes back old, fills up or stalls", "own rule: no window",
        """faults/revocation_torture
        ::what_was_acknowledged_as_cut_off_is_never_accepted_again
        faults/revocation_torture
        ::a_gateway_that_takes_the_cache_at_its_word_is_found_out"""),
    58: _held("filling the cache is cut off, doubled or overtaken", "own rule: the marker last",
        """faults/warm_up
        ::a_worker_killed_half_way_leaves_no_marker_and_the_next_one_warms_up
        faults/warm_up::no_revocation_is_lost_to_a_warm_up_that_runs_meanwhile
        db/warmth::of_two_warm_ups_the_later_one_has_the_claim
        workers/warming::many_are_loaded_in_stretches_each_once"""),
    59: _held("the cache is asked to decide alone", "own rule: proof or storage",
        """oauth/faults::without_storage_a_warm_cache_decides_and_only_what_it_can_prove
        db/revocations::a_hit_refuses_although_storage_cannot_be_asked"""),
    60: _held("old events go too early, or not at all", "own rule of retention",
        """workers/purging::a_worker_whose_clock_is_a_year_ahead_drops_nothing_of_anybody
        workers/purging::tenants_that_come_to_be_meanwhile_lose_nothing
        workers/purging::workers_at_once_record_each_month_once
        db/purging_interrupted
        ::a_purge_that_is_killed_while_it_waits_is_finished_by_the_next
        services/audit::TestRetention
        ::an_event_is_there_to_the_microsecond_of_its_end"""),
    61: _held("a tenant's name is a statement, or too long", "PostgreSQL's names: 63 bytes",
        """services/onboarding::what_is_malformed_onboards_nobody
        db/migrations_names::a_prefix_meets_no_name_of_the_registry_and_none_is_cut
        db/namespace::names_of_the_longest_prefix_fit_into_postgresql
        oauth/token_request::an_unknown_tenant_is_not_found"""),
    62: _held("one GraphQL request is hundreds", "GraphQL over HTTP, own rule of load",
        """graphql/amplification::a_document_with_too_many_of_them_runs_none
        graphql/amplification::a_batch_of_requests_is_none
        graphql/amplification::guesses_in_one_document_are_as_many_failures
        graphql/amplification::tokens_in_one_document_are_as_many_of_the_client_s_share
        graphql/amplification
        ::a_document_that_is_too_much_is_refused_before_it_is_looked_at
        graphql/amplification::a_form_of_another_page_changes_nothing
        graphql/http::a_mutation_is_not_run_by_get"""),
    63: _held("an error, a log or the trail tells a secret", "RFC 6819 §5.1.4.1",
        """house/canary::a_test_that_says_a_secret_fails
        graphql/secrets::each_secret_is_shown_in_one_payload_and_nowhere_else
        journeys/logs::every_line_is_json_and_no_secret_is_in_any
        graphql/values::what_was_pasted_in_the_wrong_place_is_not_repeated"""),
    64: _held("the trail is rewritten by who writes it", "own rule: append only",
        """db/append_only::the_application_may_not_change_the_trail
        db/append_only::every_partition_refuses_to_be_truncated
        db/no_audit_rewrite::no_statement_is_ever_sent_that_would_rewrite_a_trail"""),
    65: _held("an address or a program's name is made up", "RFC 7239 §8.1",
        """journeys/addresses::nobody_s_word_is_taken_unless_it_is_a_proxy_of_ours
        journeys/addresses::of_a_chain_the_last_that_is_no_proxy_of_ours_is_believed
        journeys/addresses::what_a_client_calls_itself_is_kept_bounded
        services/audit::TestWhatComesFromOutside
        ::a_user_agent_is_kept_bounded_and_printable"""),
    66: _held("an agent is named as somebody else is", "RFC 9700 §4.15",
        """graphql/identities::no_registration_says_its_own_id
        graphql/identities
        ::an_address_of_another_tenant_s_human_is_an_address_and_no_identity"""),
}  # fmt: skip

ABUSES: Mapping[int, Abuse] = {
    **_TOKEN, **_INTROSPECTION_AND_REVOCATION, **_VERIFICATION, **_STORES,
}  # fmt: skip
