//! The calls, answers and events of the contracts that this service uses.

use alloy::sol;

sol! {
    #[derive(Debug, PartialEq, Eq)]
    struct Verdict { address module; bytes32 reason; }
    #[derive(Debug, PartialEq, Eq)]
    struct Group { uint256[] allOf; uint256[] noneOf; }
    #[derive(Debug, PartialEq, Eq)]
    struct RoleGrant { address account; uint256 roles; }
    #[derive(Debug, PartialEq, Eq)]
    struct InitialMint { address to; uint256 amount; }
    #[derive(Debug, PartialEq, Eq)]
    struct RuleConfig { address module; bytes params; }
    #[derive(Debug, PartialEq, Eq)]
    struct AssetConfig {
        bytes32 salt;
        string name;
        string symbol;
        uint8 decimals;
        address owner;
        RoleGrant[] grants;
        RuleConfig[] rules;
        Group[] policy;
        bool unpause;
        InitialMint[] mints;
    }
    #[derive(Debug, PartialEq, Eq)]
    struct ClaimInput { uint256 topic; address issuer; bytes signature; bytes data; string uri; }

    /// Address book and roles.
    interface System {
        function get(bytes32 name) external view returns (address);
    }

    /// Creates assets.
    interface AssetFactory {
        event AssetCreated(address indexed token, address indexed creator, address indexed compliance, address onchainID, bytes32 salt, string name, string symbol);
        function create(AssetConfig calldata config) external returns (address token);
        function predict(address creator, bytes32 salt) external view returns (address token, address compliance);
        function isAsset(address token) external view returns (bool);
        function tokenBySymbol(string calldata symbol) external view returns (address);
    }

    /// The token.
    interface AssetToken {
        event Transfer(address indexed from, address indexed to, uint256 value);
        event AddressFrozen(address indexed userAddress, bool indexed isFrozen, address indexed owner);
        event TokensFrozen(address indexed userAddress, uint256 amount);
        event TokensUnfrozen(address indexed userAddress, uint256 amount);
        function name() external view returns (string memory);
        function symbol() external view returns (string memory);
        function decimals() external view returns (uint8);
        function totalSupply() external view returns (uint256);
        function balanceOf(address account) external view returns (uint256);
        function paused() external view returns (bool);
        function owner() external view returns (address);
        function compliance() external view returns (address);
        function onchainID() external view returns (address);
        function identityRegistry() external view returns (address);
        function has(address account, uint256 roleMask) external view returns (bool);
        function preview(address from, address to, uint256 amount) external view returns (address module, bytes32 reason);
        function transfer(address to, uint256 amount) external returns (bool);
        function batchTransfer(address[] calldata toList, uint256[] calldata amounts) external;
        function mint(address to, uint256 amount) external;
        function burn(address account, uint256 amount) external;
        function forcedTransfer(address from, address to, uint256 amount) external returns (bool);
        function setAddressFrozen(address account, bool freeze) external;
        function freezePartialTokens(address account, uint256 amount) external;
        function unfreezePartialTokens(address account, uint256 amount) external;
        function pause() external;
        function unpause() external;
        function grant(address account, uint256 roleMask) external;
        function revoke(address account, uint256 roleMask) external;
    }

    /// Rules of one token.
    interface TokenCompliance {
        function addModule(address module, bytes calldata params) external;
        function removeModule(address module) external;
        function explain(address from, address to, uint256 amount) external view returns (Verdict[] memory);
        function getModules() external view returns (address[] memory);
        function isModuleBound(address module) external view returns (bool);
    }

    /// A rule.
    interface Rule {
        function name() external view returns (string memory);
    }

    /// Registry of identities, trusted issuers and claim topics.
    interface IdentityRegistry {
        function identity(address userAddress) external view returns (address);
        function registration(address user) external view returns (address identityAddress, uint16 country);
        function isTrustedFor(address issuer, uint256 topic, address subject) external view returns (bool);
        function isTrustedIssuer(address issuer) external view returns (bool);
        function addTrustedIssuer(address trustedIssuer, uint256[] calldata claimTopics) external;
        function updateIssuerClaimTopics(address trustedIssuer, uint256[] calldata claimTopics) external;
        function removeTrustedIssuer(address trustedIssuer) external;
        function getTrustedIssuersForClaimTopic(uint256 claimTopic) external view returns (address[] memory);
    }

    /// Creates identities.
    interface IdentityFactory {
        function createAndRegister(address wallet, bytes32 salt, uint16 country, ClaimInput[] calldata claims) external returns (address identity);
        function predict(address wallet, bytes32 salt) external view returns (address);
    }

    /// Keys, claims, claim issuer.
    interface Identity {
        function addKey(bytes32 key, uint256 purpose, uint256 keyType) external returns (bool);
        function removeKey(bytes32 key, uint256 purpose) external returns (bool);
        function keyHasPurpose(bytes32 key, uint256 purpose) external view returns (bool);
        function addClaim(uint256 topic, uint256 scheme, address issuer, bytes calldata signature, bytes calldata data, string calldata uri) external returns (bytes32);
        function getClaim(bytes32 claimId) external view returns (uint256 topic, uint256 scheme, address issuer, bytes memory signature, bytes memory data, string memory uri);
        function getClaimIdsByTopic(uint256 topic) external view returns (bytes32[] memory);
        function claimMeta(bytes32 claimId) external view returns (address signer, uint64 expiresAt, bytes32 digest);
        function revokeClaim(bytes32 digest) external;
        function isClaimLive(address signer, bytes32 digest) external view returns (bool);
    }

    /// Names and schemas of topics.
    interface TopicSchemeRegistry {
        function registerTopicScheme(string calldata name, string calldata schema) external returns (uint256 topic);
        function exists(uint256 topic) external view returns (bool);
    }
}
