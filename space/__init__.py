"""The page: tabs, endpoints, the MCP server and the deletion of uploads."""
