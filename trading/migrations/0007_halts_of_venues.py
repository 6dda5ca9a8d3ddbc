from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("trading", "0006_watchers")]

    operations = [
        migrations.AlterField(
            model_name="halt",
            name="scope",
            field=models.CharField(
                choices=[
                    ("desk", "Desk"),
                    ("group", "Group"),
                    ("account", "Account"),
                    ("symbol", "Symbol"),
                    ("venue", "Venue"),
                ],
                max_length=8,
            ),
        ),
    ]
