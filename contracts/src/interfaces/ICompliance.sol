// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The compliance contract of an ERC-3643 token, as the standard writes it.
interface ICompliance {
    event TokenBound(address _token);
    event TokenUnbound(address _token);

    /// @notice Binds the compliance to its token. Only that token may call it.
    function bindToken(address _token) external;

    /// @notice Releases the token. Only the bound token may call it.
    function unbindToken(address _token) external;

    /// @notice Whether `_token` is the bound token.
    function isTokenBound(address _token) external view returns (bool);

    /// @notice The bound token, or zero.
    function getTokenBound() external view returns (address);

    /// @notice Whether the rules let `_amount` move; `_from` zero means a mint.
    function canTransfer(address _from, address _to, uint256 _amount) external view returns (bool);

    /// @notice Tells the rules that a transfer took place. Only the bound token.
    function transferred(address _from, address _to, uint256 _amount) external;

    /// @notice Tells the rules that tokens were minted. Only the bound token.
    function created(address _to, uint256 _amount) external;

    /// @notice Tells the rules that tokens were burned. Only the bound token.
    function destroyed(address _from, uint256 _amount) external;
}
