"""A folder of static pages on which latents are searched and read, and files for Neuronpedia and delphi.

In come a dictionary's facts about its latents; out come pages that need no server.

command       the experiment from the command line
options       what can be asked
source        where contexts come from
study         what is shown of one dictionary
folder        where it is written
page          the pages and their data
neuronpedia   the same facts as Neuronpedia's files
bundle        those again, as the export bundle that a Neuronpedia imports
delphi        the same codes as delphi's cache of latents
"""
