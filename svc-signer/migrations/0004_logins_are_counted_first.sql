-- A login is counted when it begins and the count is taken back when it ended harmlessly. Until now it was counted by the next one.
update signer.pin_latch set undecided = undecided + 1 where state = 'trying';
comment on column signer.pin_latch.undecided is
    'Logins with this PIN of which nobody knows whether the partition counted them as wrong, the one under way included. At three no further is made.';
