#!/usr/bin/env bash
# What the contract tests must have, by name, so that nothing is forgotten silently:
#   a test file for every contract of src, an invariants file for every contract that holds money or tokens, a regression file for
#   every defect seen in public contracts of this kind, a test that names every custom error, and `testFuzz_` before every fuzz test.
set -euo pipefail
cd "$(dirname "$0")/.."

holders_of_money="AssetToken Distribution Offering Servicing Settlement SmartAccount"

# Defects seen in public contracts, then the ERC-3643 ones.
defects="
submitter_chose_the_number_of_signatures
vesting_index_repeated_in_a_batch
airdrop_index_repeated_in_a_batch
secret_leaks_without_a_lock_on_funds
allowance_checked_per_leg
time_lock_burn_left_old_lots_behind
time_lock_forced_transfer_of_locked_tokens_reverted
time_lock_zero_value_transfer_panicked
time_lock_stuck_holders_from_before
recipient_bypass_skipped_senders_rules
funds_manager_withdraws_sold_tokens
price_editable_mid_sale
emergency_takes_redemption_money
anyone_force_redeems_a_holder
execute_never_worked_for_key_holders
recovery_unfroze_the_new_wallet
supply_limit_mixed_units_across_tokens
investor_limit_counted_wallets
short_last_coupon_paid_in_full
storage_write_per_future_period
claims_lost_on_recovery
lists_scanned_linearly
same_name_collided
untrusted_issuer_claim_verifies
revocation_decoyed_by_identity
malleable_signature_survives_revocation
claim_expiry_not_enforced
recovery_key_bug
snapshot_ignores_holds
balance_changes_without_event
empty_expression_lets_buyer_in
unbounded_loop_over_participants
"

missing=0
lacks() {
    echo "inventory: $*" >&2
    missing=1
}

has_tests() { # file
    grep -qE 'function (test|testFuzz|invariant)_' "$1"
}

while IFS= read -r source; do
    name=$(basename "$source" .sol)
    file=$(find test -name "$name.t.sol")
    [ -n "$file" ] && has_tests "$file" || lacks "no tests in $name.t.sol for $source"
done < <(grep -lE '^contract ' -r src --include='*.sol' | LC_ALL=C sort)

for name in $holders_of_money; do
    file=$(find test -name "$name.invariants.t.sol")
    [ -n "$file" ] && has_tests "$file" || lacks "no invariants in $name.invariants.t.sol"
done

for name in $defects; do
    file=test/regressions/$name.t.sol
    [ -f "$file" ] && has_tests "$file" && grep -q "$name" "$file" || lacks "no test in $file that names its defect"
done

while IFS= read -r name; do
    grep -rqE "\b$name\b" test || lacks "no test reaches the error $name"
done < <(grep -rhoE '^\s*error [A-Za-z0-9]+' src | awk '{print $2}' | LC_ALL=C sort -u)

while IFS= read -r line; do
    lacks "a fuzz test without testFuzz_: $line"
done < <(grep -rnE 'function test_[A-Za-z0-9_]*\([^)]' test || true)

exit "$missing"
