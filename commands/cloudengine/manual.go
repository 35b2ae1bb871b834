package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manualCommand writes a man page for each command. A release runs it; SOURCE_DATE_EPOCH gives the date of the pages.
func (a *app) manualCommand() *cobra.Command {
	return &cobra.Command{
		Use: "manual DIR", Short: "Write the manual pages of all commands into a directory", Args: cobra.ExactArgs(1), Hidden: true,
		Example: "  cloudengine manual man1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("make folder of the manual: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // it holds the day of the build
			root.InitDefaultCompletionCmd()
			header := &doc.GenManHeader{Section: "1", Source: "CloudEngine " + version(), Manual: "CloudEngine"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("write manual: %w", err)
			}
			return nil
		},
	}
}

// serverCommands are for who keeps a server: they work on its host.
func (a *app) serverCommands() []*cobra.Command {
	return []*cobra.Command{a.backupCommand(), a.restoreCommand(), a.alertCommand(), a.manualCommand()}
}
