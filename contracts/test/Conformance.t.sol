// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {Identity} from "../src/Identity.sol";
import {IdentityRegistry} from "../src/IdentityRegistry.sol";
import {IssuerSignedScalarFeed} from "../src/feeds/IssuerSignedScalarFeed.sol";
import {HistoryMode} from "../src/interfaces/IIssuerSignedScalarFeed.sol";
import {FeedFixture} from "./feeds/FeedFixture.sol";

/// @notice Interface ids, selectors and event topics as the standards' texts give them. Everything on the standards' side is a literal
/// here; nothing is taken from our interfaces, which could be wrong in the same way as the code. A selector counts as answered when
/// the dispatcher of the deployed code compares with it. Events are held against real logs in `Erc3643Client.t.sol`.
contract ConformanceTest is FeedFixture {
    IssuerSignedScalarFeed private _priceFeed;
    mapping(bytes32 codeHash => mapping(bytes4 selector => bool)) private _dispatched;

    function setUp() public override {
        super.setUp();
        _priceFeed = _feed(address(token), HistoryMode.FULL, 0);
    }

    /* HOW IT IS ASKED */

    function _selector(string memory signature) private pure returns (bytes4) {
        return bytes4(keccak256(bytes(signature)));
    }

    /// @dev Notes every constant of four bytes that the code pushes: the dispatcher's selectors are among them.
    function _read(bytes memory code) private returns (bytes32 hash) {
        hash = keccak256(code);
        uint256 push4 = 0x63;
        for (uint256 i; i + 5 <= code.length; ++i) {
            if (uint8(code[i]) != push4) continue;
            _dispatched[hash][bytes4(bytes.concat(code[i + 1], code[i + 2], code[i + 3], code[i + 4]))] = true;
        }
    }

    /// @dev All of an interface: its id is the exclusive or of the selectors, every one is dispatched, and ERC-165 says so.
    function _speaks(address target, bytes4 id, bytes[2] memory code, string[] memory signatures) private {
        bytes4 sum;
        bytes32[2] memory hashes = [_read(code[0]), _read(code[1])];
        for (uint256 i; i < signatures.length; ++i) {
            bytes4 selector = _selector(signatures[i]);
            sum ^= selector;
            assertTrue(_dispatched[hashes[0]][selector] || _dispatched[hashes[1]][selector], signatures[i]);
        }
        assertEq(bytes32(sum), bytes32(id), "the id is the sum of the selectors");
        assertTrue(IERC165(target).supportsInterface(id), "ERC-165");
    }

    function _tokenCode() private view returns (bytes[2] memory) {
        return [factory.TOKEN_IMPLEMENTATION().code, bytes("")];
    }

    function _registryCode() private view returns (bytes[2] memory) {
        return [address(registry).code, IdentityRegistry(address(registry)).ADMINISTRATION().code];
    }

    function _identityCode() private view returns (bytes[2] memory) {
        Identity implementation = Identity(payable(identities.implementation()));
        return [address(implementation).code, implementation.CONTROL().code];
    }

    function _list(string[3] memory few) private pure returns (string[] memory all) {
        all = new string[](3);
        for (uint256 i; i < 3; ++i) {
            all[i] = few[i];
        }
    }

    /* ERC-165 */

    function test_erc165() public view {
        assertEq(bytes32(_selector("supportsInterface(bytes4)")), bytes32(bytes4(0x01ffc9a7)), "its id");
        address[5] memory speakers =
            [address(token), address(registry), address(issuer), address(compliance), address(_priceFeed)];
        for (uint256 i; i < speakers.length; ++i) {
            assertTrue(IERC165(speakers[i]).supportsInterface(0x01ffc9a7), "itself");
            assertTrue(!IERC165(speakers[i]).supportsInterface(0xffffffff), "never this one");
        }
    }

    /* ERC-20, ERC-2612, ERC-173 */

    function test_erc20() public {
        string[] memory f = new string[](6);
        f[0] = "totalSupply()";
        f[1] = "balanceOf(address)";
        f[2] = "transfer(address,uint256)";
        f[3] = "transferFrom(address,address,uint256)";
        f[4] = "approve(address,uint256)";
        f[5] = "allowance(address,address)";
        _speaks(address(token), 0x36372b07, _tokenCode(), f);
        assertEq(bytes32(_selector(f[2])), bytes32(bytes4(0xa9059cbb)), "transfer");
        assertEq(bytes32(_selector(f[3])), bytes32(bytes4(0x23b872dd)), "transferFrom");
        assertEq(bytes32(_selector(f[4])), bytes32(bytes4(0x095ea7b3)), "approve");
    }

    function test_erc20_metadata() public {
        _speaks(address(token), 0xa219a025, _tokenCode(), _list(["name()", "symbol()", "decimals()"]));
    }

    function test_erc2612() public {
        string memory permit = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)";
        assertEq(bytes32(_selector(permit)), bytes32(bytes4(0xd505accf)), "permit");
        assertEq(bytes32(_selector("nonces(address)")), bytes32(bytes4(0x7ecebe00)), "nonces");
        assertEq(bytes32(_selector("DOMAIN_SEPARATOR()")), bytes32(bytes4(0x3644e515)), "DOMAIN_SEPARATOR");
        _speaks(address(token), 0x9d8ff7da, _tokenCode(), _list([permit, "nonces(address)", "DOMAIN_SEPARATOR()"]));
    }

    function test_erc173() public {
        string[] memory f = new string[](2);
        (f[0], f[1]) = ("owner()", "transferOwnership(address)");
        _speaks(address(token), 0x7f5828d0, _tokenCode(), f);
        _speaks(address(registry), 0x7f5828d0, _registryCode(), f);
    }

    /* ERC-3643 */

    function test_erc3643_token() public {
        string[] memory f = new string[](28);
        f[0] = "onchainID()";
        f[1] = "version()";
        f[2] = "identityRegistry()";
        f[3] = "compliance()";
        f[4] = "paused()";
        f[5] = "isFrozen(address)";
        f[6] = "getFrozenTokens(address)";
        f[7] = "setName(string)";
        f[8] = "setSymbol(string)";
        f[9] = "setOnchainID(address)";
        f[10] = "pause()";
        f[11] = "unpause()";
        f[12] = "setAddressFrozen(address,bool)";
        f[13] = "freezePartialTokens(address,uint256)";
        f[14] = "unfreezePartialTokens(address,uint256)";
        f[15] = "setIdentityRegistry(address)";
        f[16] = "setCompliance(address)";
        f[17] = "forcedTransfer(address,address,uint256)";
        f[18] = "mint(address,uint256)";
        f[19] = "burn(address,uint256)";
        f[20] = "recoveryAddress(address,address,address)";
        f[21] = "batchTransfer(address[],uint256[])";
        f[22] = "batchForcedTransfer(address[],address[],uint256[])";
        f[23] = "batchMint(address[],uint256[])";
        f[24] = "batchBurn(address[],uint256[])";
        f[25] = "batchSetAddressFrozen(address[],bool[])";
        f[26] = "batchFreezePartialTokens(address[],uint256[])";
        f[27] = "batchUnfreezePartialTokens(address[],uint256[])";
        _speaks(address(token), 0xb97d944c, _tokenCode(), f);
    }

    function test_erc3643_agent_role() public {
        string[] memory f = _list(["addAgent(address)", "removeAgent(address)", "isAgent(address)"]);
        _speaks(address(token), 0x0cba0fa8, _tokenCode(), f);
        _speaks(address(registry), 0x0cba0fa8, _registryCode(), f);
    }

    function test_erc3643_identity_registry() public {
        string[] memory f = new string[](15);
        f[0] = "identityStorage()";
        f[1] = "issuersRegistry()";
        f[2] = "topicsRegistry()";
        f[3] = "setIdentityRegistryStorage(address)";
        f[4] = "setClaimTopicsRegistry(address)";
        f[5] = "setTrustedIssuersRegistry(address)";
        f[6] = "registerIdentity(address,address,uint16)";
        f[7] = "deleteIdentity(address)";
        f[8] = "updateCountry(address,uint16)";
        f[9] = "updateIdentity(address,address)";
        f[10] = "batchRegisterIdentity(address[],address[],uint16[])";
        f[11] = "contains(address)";
        f[12] = "isVerified(address)";
        f[13] = "identity(address)";
        f[14] = "investorCountry(address)";
        _speaks(address(registry), 0x8ff89f73, _registryCode(), f);
    }

    function test_erc3643_identity_registry_storage() public {
        string[] memory f = new string[](9);
        f[0] = "storedIdentity(address)";
        f[1] = "storedInvestorCountry(address)";
        f[2] = "addIdentityToStorage(address,address,uint16)";
        f[3] = "removeIdentityFromStorage(address)";
        f[4] = "modifyStoredInvestorCountry(address,uint16)";
        f[5] = "modifyStoredIdentity(address,address)";
        f[6] = "bindIdentityRegistry(address)";
        f[7] = "unbindIdentityRegistry(address)";
        f[8] = "linkedIdentityRegistries()";
        _speaks(address(registry), 0x57defe0d, _registryCode(), f);
    }

    function test_erc3643_trusted_issuers_registry() public {
        string[] memory f = new string[](8);
        f[0] = "addTrustedIssuer(address,uint256[])";
        f[1] = "removeTrustedIssuer(address)";
        f[2] = "updateIssuerClaimTopics(address,uint256[])";
        f[3] = "getTrustedIssuers()";
        f[4] = "isTrustedIssuer(address)";
        f[5] = "getTrustedIssuerClaimTopics(address)";
        f[6] = "getTrustedIssuersForClaimTopic(uint256)";
        f[7] = "hasClaimTopic(address,uint256)";
        _speaks(address(registry), 0xb0f773b8, _registryCode(), f);
    }

    function test_erc3643_claim_topics_registry() public {
        string[] memory f = _list(["addClaimTopic(uint256)", "removeClaimTopic(uint256)", "getClaimTopics()"]);
        _speaks(address(registry), 0x10928b13, _registryCode(), f);
    }

    function test_erc3643_compliance_in_both_ids() public {
        string[] memory f = new string[](8);
        f[0] = "bindToken(address)";
        f[1] = "unbindToken(address)";
        f[2] = "getTokenBound()";
        f[3] = "canTransfer(address,address,uint256)";
        f[4] = "transferred(address,address,uint256)";
        f[5] = "created(address,uint256)";
        f[6] = "destroyed(address,uint256)";
        f[7] = "isTokenBound(address)";
        bytes[2] memory code = [factory.COMPLIANCE_IMPLEMENTATION().code, bytes("")];
        _speaks(address(compliance), 0x3144991c, code, f);
        string[] memory short = new string[](7);
        for (uint256 i; i < 7; ++i) {
            short[i] = f[i];
        }
        _speaks(address(compliance), 0xa87a1289, code, short);
    }

    /* ERC-734, ERC-735, CLAIM ISSUER */

    function test_erc734() public {
        string[] memory f = new string[](8);
        f[0] = "addKey(bytes32,uint256,uint256)";
        f[1] = "removeKey(bytes32,uint256)";
        f[2] = "execute(address,uint256,bytes)";
        f[3] = "approve(uint256,bool)";
        f[4] = "getKey(bytes32)";
        f[5] = "getKeyPurposes(bytes32)";
        f[6] = "getKeysByPurpose(uint256)";
        f[7] = "keyHasPurpose(bytes32,uint256)";
        _speaks(address(issuer), 0x270d514f, _identityCode(), f);
    }

    function test_erc735() public {
        string[] memory f = new string[](4);
        f[0] = "addClaim(uint256,uint256,address,bytes,bytes,string)";
        f[1] = "removeClaim(bytes32)";
        f[2] = "getClaim(bytes32)";
        f[3] = "getClaimIdsByTopic(uint256)";
        _speaks(address(issuer), 0xb6b4ee6d, _identityCode(), f);
    }

    function test_claim_issuer() public {
        string[] memory f = new string[](5);
        f[0] = "revokeClaim(bytes32,address)";
        f[1] = "revokeClaimBySignature(bytes)";
        f[2] = "isClaimRevoked(bytes)";
        f[3] = "isClaimValid(address,uint256,bytes,bytes)";
        f[4] = "getRecoveredAddress(bytes,bytes32)";
        _speaks(address(issuer), 0xc9dda83c, _identityCode(), f);
    }

    /* AGGREGATOR */

    function test_aggregator_v3() public {
        string[] memory f = new string[](5);
        f[0] = "decimals()";
        f[1] = "description()";
        f[2] = "version()";
        f[3] = "getRoundData(uint80)";
        f[4] = "latestRoundData()";
        bytes[2] memory code = [feeds.IMPLEMENTATION().code, bytes("")];
        _speaks(address(_priceFeed), 0x73851258, code, f);
        code[0] = directory.ADAPTER_IMPLEMENTATION().code;
        _speaks(directory.createAdapter(address(token), price), 0x73851258, code, f);
    }

    /* THE CHECK ITSELF */

    function test_a_function_that_is_not_there_is_noticed() public {
        bytes32 hash = _read(factory.TOKEN_IMPLEMENTATION().code);
        assertTrue(_dispatched[hash][_selector("mint(address,uint256)")], "there");
        assertTrue(!_dispatched[hash][_selector("mint(address,uint128)")], "not there");
    }
}
