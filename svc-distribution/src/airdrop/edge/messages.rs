//! Messages to commands.

use crate::airdrop::{
    list::Format,
    terms::{ClaimRow, Kind, MAX_RELEASED, ReleaseRows, Terms, Withdraw},
};
use alloy::primitives::{Address, U256};
use dalp_proto::distribution as proto;
use dalp_service::{
    Refusal,
    fields::{self, Violations},
};

/// What a list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListTerms {
    pub(super) asset: Address,
    pub(super) format: Format,
    pub(super) accept_unverified: bool,
}

/// What an airdrop is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sender: Address,
    pub(super) terms: Terms,
    pub(super) list: ListTerms,
    pub(super) leave_out: bool,
}

fn list(bad: &mut Violations, path: &str, header: &proto::ListHeader) -> ListTerms {
    let format: Option<proto::ListFormat> = bad.check(fields::enum_value(&format!("{path}format"), header.format));
    ListTerms {
        asset: bad.check(fields::nonzero_address(&format!("{path}asset"), &header.asset)).unwrap_or_default(),
        format: match format {
            Some(proto::ListFormat::JsonLines) => Format::JsonLines,
            _ => Format::Csv,
        },
        accept_unverified: header.accept_unverified,
    }
}

fn kind(bad: &mut Violations, kind: i32) -> Kind {
    match bad.check(fields::enum_value("terms.kind", kind)) {
        Some(proto::AirdropKind::Claim) => Kind::Claim,
        Some(proto::AirdropKind::Vesting) => Kind::Vesting,
        _ => Kind::Push,
    }
}

impl TryFrom<&proto::ListHeader> for ListTerms {
    type Error = Refusal;

    fn try_from(header: &proto::ListHeader) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let list = list(&mut bad, "", header);
        bad.finish()?;
        Ok(list)
    }
}

impl TryFrom<&proto::AirdropHeader> for Header {
    type Error = Refusal;

    fn try_from(header: &proto::AirdropHeader) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let terms = header.terms.clone().unwrap_or_default();
        let list = list(&mut bad, "list.", &header.list.clone().unwrap_or_default());
        let sender = bad.check(fields::nonzero_address("terms.sender", &terms.sender)).unwrap_or_default();
        let leftover_to = match terms.leftover_to.as_str() {
            "" => sender,
            text => bad.check(fields::nonzero_address("terms.leftover_to", text)).unwrap_or_default(),
        };
        let kind = kind(&mut bad, terms.kind);
        if terms.ends_at <= terms.starts_at {
            bad.push("terms.ends_at", "must be later than starts_at");
        }
        match kind {
            Kind::Vesting if terms.duration_s == 0 => bad.push("terms.duration_s", "must be at least 1 in a vesting"),
            Kind::Vesting if terms.cliff_s > terms.duration_s => {
                bad.push("terms.cliff_s", "must be at most duration_s");
            }
            Kind::Push | Kind::Claim if terms.duration_s != 0 || terms.cliff_s != 0 => {
                bad.push("terms.duration_s", "must be 0 with cliff_s: only a vesting has them");
            }
            _ => {}
        }
        let cap = match terms.cap.as_str() {
            "" => U256::ZERO,
            text => bad.check(fields::nonzero_amount("terms.cap", text)).unwrap_or_default(),
        };
        if !cap.is_zero() && kind != Kind::Push {
            bad.push("terms.cap", "must be empty: only a push has a cap");
        }
        bad.finish()?;
        let terms = Terms {
            asset: list.asset,
            kind,
            leftover_to,
            starts_at: terms.starts_at,
            ends_at: terms.ends_at,
            cliff_s: terms.cliff_s,
            duration_s: terms.duration_s,
            cap,
        };
        Ok(Self { sender, terms, list, leave_out: header.leave_out_bad_lines })
    }
}

impl TryFrom<&proto::ClaimAirdropRequest> for ClaimRow {
    type Error = Refusal;

    fn try_from(request: &proto::ClaimAirdropRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let sender = bad.check(fields::nonzero_address("sender", &request.sender)).unwrap_or_default();
        let command = Self {
            sender,
            airdrop: bad.check(fields::nonzero_address("airdrop", &request.airdrop)).unwrap_or_default(),
            account: match request.account.as_str() {
                "" => sender,
                text => bad.check(fields::nonzero_address("account", text)).unwrap_or_default(),
            },
        };
        bad.finish()?;
        Ok(command)
    }
}

impl TryFrom<&proto::ReleaseAirdropRequest> for ReleaseRows {
    type Error = Refusal;

    fn try_from(request: &proto::ReleaseAirdropRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        if request.accounts.len() > MAX_RELEASED {
            bad.push("accounts", format!("must hold at most {MAX_RELEASED}"));
        }
        let sender = bad.check(fields::nonzero_address("sender", &request.sender)).unwrap_or_default();
        let airdrop = bad.check(fields::nonzero_address("airdrop", &request.airdrop)).unwrap_or_default();
        let mut accounts = Vec::new();
        for (index, text) in request.accounts.iter().take(MAX_RELEASED).enumerate() {
            let account = bad.check(fields::nonzero_address(&format!("accounts[{index}]"), text)).unwrap_or_default();
            if accounts.contains(&account) && !account.is_zero() {
                bad.push(format!("accounts[{index}]"), "stands here before");
            }
            accounts.push(account);
        }
        if accounts.is_empty() {
            accounts.push(sender);
        }
        bad.finish()?;
        Ok(Self { sender, airdrop, accounts })
    }
}

impl TryFrom<&proto::WithdrawLeftoversRequest> for Withdraw {
    type Error = Refusal;

    fn try_from(request: &proto::WithdrawLeftoversRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let currency = (!request.currency.is_empty())
            .then(|| bad.check(fields::nonzero_address("currency", &request.currency)).unwrap_or_default());
        let command = Self {
            sender: bad.check(fields::nonzero_address("sender", &request.sender)).unwrap_or_default(),
            airdrop: bad.check(fields::nonzero_address("airdrop", &request.airdrop)).unwrap_or_default(),
            currency,
        };
        bad.finish()?;
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALLET: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";
    const OTHER: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

    fn paths(refusal: &Refusal) -> Vec<&str> {
        refusal.violations().iter().map(|(path, _)| path.as_str()).collect()
    }

    fn header(terms: proto::AirdropTerms) -> proto::AirdropHeader {
        let format = proto::ListFormat::Csv.into();
        let list = proto::ListHeader { asset: OTHER.into(), format, ..Default::default() };
        proto::AirdropHeader { terms: Some(terms), list: Some(list), leave_out_bad_lines: false }
    }

    fn terms(kind: proto::AirdropKind) -> proto::AirdropTerms {
        proto::AirdropTerms {
            sender: WALLET.into(),
            kind: kind.into(),
            starts_at: 10,
            ends_at: 20,
            duration_s: if kind == proto::AirdropKind::Vesting { 100 } else { 0 },
            ..Default::default()
        }
    }

    #[test]
    fn leftovers_go_to_the_sender_unless_somebody_is_named() {
        for kind in [proto::AirdropKind::Push, proto::AirdropKind::Claim, proto::AirdropKind::Vesting] {
            let read = Header::try_from(&header(terms(kind))).unwrap();
            assert_eq!((read.terms.leftover_to, read.terms.asset), (read.sender, OTHER.parse().unwrap()));
        }
        let named = proto::AirdropTerms { leftover_to: OTHER.into(), ..terms(proto::AirdropKind::Push) };
        assert_eq!(Header::try_from(&header(named)).unwrap().terms.leftover_to, OTHER.parse::<Address>().unwrap());
    }

    #[test]
    fn terms_that_make_no_sense_are_refused() {
        let refused = |terms| paths(&Header::try_from(&header(terms)).unwrap_err()).join(" ");
        let (push, claim, vesting) =
            (terms(proto::AirdropKind::Push), terms(proto::AirdropKind::Claim), terms(proto::AirdropKind::Vesting));
        assert_eq!(refused(proto::AirdropTerms { kind: 0, ..push.clone() }), "terms.kind");
        assert_eq!(refused(proto::AirdropTerms { ends_at: 10, ..push.clone() }), "terms.ends_at");
        assert_eq!(refused(proto::AirdropTerms { cliff_s: 1, ..push.clone() }), "terms.duration_s");
        assert_eq!(refused(proto::AirdropTerms { cap: "0".into(), ..push }), "terms.cap");
        assert_eq!(refused(proto::AirdropTerms { cap: "5".into(), ..claim }), "terms.cap");
        assert_eq!(refused(proto::AirdropTerms { duration_s: 0, ..vesting.clone() }), "terms.duration_s");
        assert_eq!(refused(proto::AirdropTerms { cliff_s: 101, ..vesting }), "terms.cliff_s");
        let nothing = Header::try_from(&proto::AirdropHeader::default()).unwrap_err();
        assert_eq!(paths(&nothing), ["list.format", "list.asset", "terms.sender", "terms.kind", "terms.ends_at"]);
    }

    #[test]
    fn a_release_names_each_account_once() {
        let release = |accounts: &[&str]| {
            let accounts = accounts.iter().map(|account| (*account).to_owned()).collect();
            ReleaseRows::try_from(&proto::ReleaseAirdropRequest {
                sender: WALLET.into(),
                airdrop: OTHER.into(),
                accounts,
            })
        };
        assert_eq!(release(&[]).unwrap().accounts, [WALLET.parse::<Address>().unwrap()]);
        assert_eq!(release(&[WALLET, OTHER]).unwrap().accounts.len(), 2);
        assert_eq!(paths(&release(&[WALLET, OTHER, WALLET]).unwrap_err()), ["accounts[2]"]);
        assert_eq!(paths(&release(&[WALLET; 101]).unwrap_err())[0], "accounts");
    }
}
