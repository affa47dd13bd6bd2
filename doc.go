// Package webpubsub is the service client for Azure Web PubSub.
package webpubsub
