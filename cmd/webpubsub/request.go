package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func newRequest(p *program) *cobra.Command {
	var file, contentType string
	cmd := &cobra.Command{
		Use:   "request METHOD PATH",
		Short: "Send a signed request to the REST API",
		Long: `Send a signed request to the REST API and print the body of the response, for operations that have no command here. PATH
contains the hub, so --hub is ignored. The api-version is added if PATH has none. A status other than 2xx is a failure.
The command rejects generateToken: only "webpubsub token" prints tokens.`,
		Example: `  webpubsub request GET '/api/hubs/chat/groups/room/connections?top=10'`,
		Args:    argumentsOf("request METHOD PATH"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			client, err := p.clientForHub(cmd.ErrOrStderr(), "request")
			if err != nil {
				return err
			}
			if strings.Contains(strings.ToLower(args[1]), "generatetoken") {
				return usageErrorf("PATH: use webpubsub token to create a token")
			}
			var body []byte
			if file != "" {
				if body, err = readFile(cmd, file); err != nil {
					return err
				}
			}
			req, err := http.NewRequestWithContext(cmd.Context(), args[0], args[1], bytes.NewReader(body))
			if err != nil {
				return usageErrorf("%v", err)
			}
			if file != "" {
				req.Header.Set("Content-Type", contentType)
			}
			resp, err := client.SendRequest(cmd.Context(), req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			return printResponse(forTerminal(cmd.OutOrStdout()), resp)
		}),
	}
	cmd.Flags().StringVar(&file, "file", "", "send the content of `FILE` as the body; - is standard input")
	cmd.Flags().StringVar(&contentType, "content-type", "application/json", "the content `TYPE` of the body")
	return cmd
}

// printResponse prints the body of a response.
func printResponse(w io.Writer, resp *http.Response) error {
	if _, err := io.Copy(w, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("request: %s (client request id %s)", resp.Status, resp.Request.Header.Get("x-ms-client-request-id"))
	}
	return nil
}
