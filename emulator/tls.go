package emulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"time"
)

// newCertificate creates a self-signed certificate for [Options].TLS.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "webpubsub emulator"},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:             now.Add(-time.Hour), // tolerates a client whose clock is slow
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// newHTTPClient returns a client that trusts the certificates of config, which may be nil.
func newHTTPClient(config *tls.Config) *http.Client {
	transport := &http.Transport{}
	if config != nil {
		roots := x509.NewCertPool()
		for _, c := range config.Certificates {
			for _, der := range c.Certificate {
				if parsed, err := x509.ParseCertificate(der); err == nil {
					roots.AddCert(parsed)
				}
			}
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return &http.Client{Transport: transport}
}

// HTTPClient returns an HTTP client that trusts the certificates of Options.TLS and Options.TLSConfig, except those that a callback
// of TLSConfig returns. Use it as the Transport of a service client, or as the HTTPClient of a WebSocket client. Its Transport is an
// *http.Transport, whose TLSClientConfig is for other clients, such as MQTT clients. [Server.Close] closes the client's idle
// connections.
func (s *Server) HTTPClient() *http.Client { return s.httpClient }
