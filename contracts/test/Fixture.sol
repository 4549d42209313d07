// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetFactory} from "../src/AssetFactory.sol";
import {AssetToken} from "../src/AssetToken.sol";
import {Bootstrap, NamedAddress, SystemGrant} from "../src/Bootstrap.sol";
import {Create2Deployer} from "../src/Create2Deployer.sol";
import {IdentityFactory} from "../src/IdentityFactory.sol";
import {IdentityRegistry} from "../src/IdentityRegistry.sol";
import {System} from "../src/System.sol";
import {TokenCompliance} from "../src/TokenCompliance.sol";
import {TopicSchemeRegistry} from "../src/TopicSchemeRegistry.sol";
import {ISystem} from "../src/interfaces/ISystem.sol";
import {AssetConfig, InitialMint, RoleGrant} from "../src/interfaces/IAssetFactory.sol";
import {ClaimInput, IIdentity} from "../src/interfaces/IIdentity.sol";
import {Group, IMergedIdentityRegistry} from "../src/interfaces/IIdentityRegistryPolicy.sol";
import {Movement} from "../src/interfaces/IRule.sol";
import {RuleConfig} from "../src/interfaces/ITokenCompliance.sol";
import {ClaimData} from "../src/libraries/ClaimData.sol";
import {AssetRoles, Names, Roles} from "../src/Roles.sol";
import {ComplianceRefused, ReasonCodes} from "../src/Refusals.sol";
import {ClaimRule} from "../src/rules/ClaimRule.sol";
import {CountryRule} from "../src/rules/CountryRule.sol";
import {TestBase} from "./Vm.sol";

/// @notice A whole tenant, deployed as in production: CREATE2 addresses known first, one bootstrap call, factory-made asset.
/// The test contract holds every system role and every asset role, so calls without a prank are authorised.
abstract contract Fixture is TestBase {
    uint16 internal constant DE = 276;
    uint16 internal constant US = 840;
    uint16 internal constant FR = 250;

    uint256 internal constant ISSUER_KEY = 0xA11CE;

    Create2Deployer internal deployer;
    System internal system;
    IMergedIdentityRegistry internal registry;
    IdentityFactory internal identities;
    TopicSchemeRegistry internal topics;
    AssetFactory internal factory;
    CountryRule internal countryRule;
    ClaimRule internal claimRule;
    IIdentity internal issuer;

    uint256 internal kyc;
    uint256 internal accredited;
    uint256 internal sanctioned;

    address internal alice = address(0xA1);
    address internal bob = address(0xB0);
    address internal carol = address(0xCA);
    address internal stranger = address(0x57);

    AssetToken internal token;
    TokenCompliance internal compliance;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        _deployTenant();
        kyc = topics.registerTopicScheme("kyc", "(string level)");
        accredited = topics.registerTopicScheme("accredited", "(bool yes)");
        sanctioned = topics.registerTopicScheme("sanctioned", "(bool yes)");
        issuer = IIdentity(identities.create(vm.addr(ISSUER_KEY), 0, new ClaimInput[](0)));
        uint256[] memory all = new uint256[](3);
        (all[0], all[1], all[2]) = (kyc, accredited, sanctioned);
        registry.addTrustedIssuer(address(issuer), all);
        _investor(alice, DE);
        _investor(bob, DE);
        (token, compliance) = _asset("BOND", new RuleConfig[](0));
        token.mint(alice, 1000);
        token.mint(bob, 1000);
    }

    /* DEPLOYMENT */

    function _deployTenant() internal {
        deployer = new Create2Deployer();
        address bootstrap = _deploy(type(Bootstrap).creationCode, abi.encode(address(this)));
        system = System(_deploy(type(System).creationCode, abi.encode(address(this), bootstrap)));
        registry = IMergedIdentityRegistry(_deploy(type(IdentityRegistry).creationCode, abi.encode(system)));
        identities = IdentityFactory(_deploy(type(IdentityFactory).creationCode, abi.encode(system)));
        topics = TopicSchemeRegistry(_deploy(type(TopicSchemeRegistry).creationCode, abi.encode(system)));
        address tokenCode = _deploy(type(AssetToken).creationCode, "");
        address complianceCode = _deploy(type(TokenCompliance).creationCode, "");
        factory = AssetFactory(_deploy(type(AssetFactory).creationCode, abi.encode(system, tokenCode, complianceCode)));
        countryRule = CountryRule(_deploy(type(CountryRule).creationCode, ""));
        claimRule = ClaimRule(_deploy(type(ClaimRule).creationCode, ""));
        Bootstrap(bootstrap).run(ISystem(address(system)), _book(), _systemGrants());
    }

    function _book() internal view returns (NamedAddress[] memory book) {
        book = new NamedAddress[](6);
        book[0] = NamedAddress(Names.IDENTITY_REGISTRY, address(registry));
        book[1] = NamedAddress(Names.IDENTITY_FACTORY, address(identities));
        book[2] = NamedAddress(Names.TOPIC_SCHEMES, address(topics));
        book[3] = NamedAddress(Names.ASSET_FACTORY, address(factory));
        book[4] = NamedAddress(Names.COUNTRY_RULE, address(countryRule));
        book[5] = NamedAddress(Names.CLAIM_RULE, address(claimRule));
    }

    function _systemGrants() internal view returns (SystemGrant[] memory grants) {
        grants = new SystemGrant[](2);
        grants[0] = SystemGrant(address(factory), Roles.TOKEN_MANAGER);
        grants[1] = SystemGrant(
            address(this),
            Roles.IDENTITY_MANAGER | Roles.TOKEN_MANAGER | Roles.COMPLIANCE_MANAGER | Roles.CLAIM_POLICY_MANAGER
        );
    }

    function _deploy(bytes memory code, bytes memory args) internal returns (address) {
        return deployer.deploy(bytes32("test"), bytes.concat(code, args));
    }

    /* PEOPLE */

    /// @dev Registered, with a live KYC claim.
    function _investor(address wallet, uint16 country) internal returns (address identity) {
        identity = _registered(wallet, country);
        _claim(identity, kyc);
    }

    function _registered(address wallet, uint16 country) internal returns (address) {
        return identities.createAndRegister(wallet, 0, country, new ClaimInput[](0));
    }

    function _claim(address identity, uint256 topic) internal {
        bytes memory data = ClaimData.encode(0, "yes");
        bytes32 digest = ClaimData.digestOf(identity, topic, data);
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(ISSUER_KEY, keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", digest)));
        vm.prank(vm.addr(ISSUER_KEY));
        IIdentity(identity).addClaim(topic, 1, address(issuer), abi.encodePacked(r, s, v), data, "");
    }

    /// @dev Revokes the claim that `_claim` made.
    function _revokeClaim(address identity, uint256 topic) internal {
        vm.prank(vm.addr(ISSUER_KEY));
        issuer.revokeClaim(ClaimData.digestOf(identity, topic, ClaimData.encode(0, "yes")));
    }

    /* ASSETS */

    function _config(string memory symbol, RuleConfig[] memory rules)
        internal
        view
        returns (AssetConfig memory config)
    {
        config.salt = keccak256(bytes(symbol));
        config.name = "Example bond";
        config.symbol = symbol;
        config.decimals = 2;
        config.owner = address(this);
        config.grants = new RoleGrant[](1);
        config.grants[0] = RoleGrant(address(this), AssetRoles.ALL);
        config.rules = rules;
        config.policy = _policy(kyc);
        config.unpause = true;
    }

    function _asset(string memory symbol, RuleConfig[] memory rules)
        internal
        returns (AssetToken created, TokenCompliance its)
    {
        created = AssetToken(factory.create(_config(symbol, rules)));
        its = TokenCompliance(address(created.compliance()));
    }

    /// @dev As the token hands it to its rules.
    function _movement(address from, address to, uint256 amount) internal view returns (Movement memory movement) {
        (, movement.identity, movement.country, movement.exempt) = registry.admission(address(token), to);
        (movement.token, movement.registry) = (address(token), address(registry));
        (movement.from, movement.to, movement.amount) = (from, to, amount);
    }

    function _policy(uint256 topic) internal pure returns (Group[] memory anyOf) {
        anyOf = new Group[](1);
        anyOf[0].allOf = new uint256[](1);
        anyOf[0].allOf[0] = topic;
        anyOf[0].noneOf = new uint256[](0);
    }

    function _countryParams(bool allow, uint16 country) internal pure returns (bytes memory) {
        uint16[] memory list = new uint16[](1);
        list[0] = country;
        return abi.encode(allow, list);
    }

    /* EXPECTATIONS */

    function _expectRefusal(address module, bytes32 reason) internal {
        vm.expectRevert(abi.encodeWithSelector(ComplianceRefused.selector, module, reason));
    }

    /// @dev `preview` shows what the next call must revert with.
    function _expectPreviewed(address from, address to, uint256 amount, address module, bytes32 reason) internal {
        (address shown, bytes32 why) = token.preview(from, to, amount);
        assertEq(shown, module, "previewed module");
        assertEq(why, reason, "previewed reason");
        _expectRefusal(module, reason);
    }
}
