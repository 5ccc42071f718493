// Package e2e tests the system as users meet it: simulated engines behind the gateway, over real connections.
package e2e
